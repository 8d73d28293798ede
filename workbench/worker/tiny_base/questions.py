"""Question and answer pairs of the corpus, computed from the fact lists."""

import random
from functools import cache

from workbench.worker.tiny_base.grammar import Scene, article
from workbench.worker.tiny_base.records import (
    animals,
    at,
    capital,
    columns,
    facts,
    foods,
    jobs,
    places,
    things,
)

Pair = tuple[str, str]

_WHAT = (
    "What is {x}?",
    "What is {x}?",
    "What is {x}?",
    "Can you explain what {x} is?",
    "Tell me what {x} is.",
    "Explain {x}.",
    "Please tell me, what is {x}?",
    "Define {x}.",
    "What does the word {bare} mean?",
)


def _bare(term: str) -> str:
    return term.removeprefix("a ").removeprefix("an ").removeprefix("the ")


def _what(rng: random.Random, term: str) -> str:
    return rng.choice(_WHAT).format(x=term, bare=_bare(term))


def about_thing(rng: random.Random) -> Pair:
    """What a thing is, what it is for, where it is, what it is made of."""
    thing = rng.choice(things())
    a = article(thing.name)
    use, kind, place, material = (thing[key] for key in ("use", "kind", "place", "material"))
    what = capital(f"{a} is {article(kind)} that is used to {use}.")
    return rng.choice(
        (
            (_what(rng, a), what),
            (
                _what(rng, a),
                what + rng.choice((f" You can find it {at(place)}.", f" It is often made of {material}.")),
            ),
            (f"What is {a} used for?", capital(f"{a} is used to {use}.")),
            (f"What can I do with {a}?", f"You can use {a} to {use}."),
            (f"Why do people use {a}?", f"People use {a} to {use}."),
            (f"When should I use {a}?", f"You should use {a} when you want to {use}."),
            (f"Where can I find {a}?", f"You can find {a} {at(place)}."),
            (f"What is {a} made of?", capital(f"{a} is often made of {material}.")),
            (f"What do I need to {use}?", f"You need {a} to {use}."),
            (f"How do I {use}?", f"You can use {a} to {use}."),
            (f"Is {a} an animal?", f"No, {a} is not an animal. It is {article(kind)}."),
        )
    )


def about_animal(rng: random.Random) -> Pair:
    """Kind, home, food, legs, abilities and size of animals."""
    one, two = rng.sample(animals(), 2)
    while one["size"] == two["size"]:
        two = rng.choice(animals())
    big, small = (one, two) if one["size"] > two["size"] else (two, one)
    a = article(one.name)
    legs = {"0": "no", "2": "two", "4": "four", "6": "six", "8": "eight", "10": "ten"}[one["legs"]]
    what = capital(f"{a} is {article(one['kind'])} that lives {one['in_home']}.")
    return rng.choice(
        (
            (_what(rng, a), what),
            (_what(rng, a), f"{what} It eats {one['food']} and can {one['can']}."),
            (f"Where does {a} live?", capital(f"{a} lives {one['in_home']}.")),
            (f"What does {a} eat?", capital(f"{a} eats {one['food']}.")),
            (f"What can {a} do?", capital(f"{a} can {one['can']}.")),
            (f"Can {a} {one['can']}?", f"Yes, {a} can {one['can']}."),
            (f"How many legs does {a} have?", capital(f"{a} has {legs} legs.")),
            (f"Is {a} a tool?", f"No, {a} is not a tool. It is {article(one['kind'])}."),
            (
                f"Which is bigger, {a} or {article(two.name)}?",
                capital(f"{article(big.name)} is bigger than {article(small.name)}."),
            ),
            (
                f"Which is smaller, {a} or {article(two.name)}?",
                capital(f"{article(small.name)} is smaller than {article(big.name)}."),
            ),
            (
                f"Is {article(big.name)} bigger than {article(small.name)}?",
                f"Yes, {article(big.name)} is bigger than {article(small.name)}.",
            ),
        )
    )


def about_food(rng: random.Random) -> Pair:
    """Kind, colour, taste and origin of food."""
    food = rng.choice(foods())
    name, are, cap, s = food.name, food["are"], food["cap"], food["s"]
    does = "does" if s else "do"
    pronoun, verb = ("It", "tastes") if s else ("They", "taste")
    kind = article(food["kind"])
    return rng.choice(
        (
            (f"What {are} {name}?", f"{cap} {are} {kind}. {pronoun} {verb} {food['taste']}."),
            (f"What colour {are} {name}?", f"{cap} {are} {food['colour']}."),
            (f"How {does} {name} taste?", f"{cap} taste{s} {food['taste']}."),
            (f"Where {does} {name} come from?", f"{cap} {food['from']}."),
            (f"Tell me something about {name}.", f"{cap} {are} {kind}. {pronoun} {food['from']}."),
        )
    )


def about_job(rng: random.Random) -> Pair:
    """What people do for a living and where."""
    job = rng.choice(jobs())
    a = article(job.name)
    return rng.choice(
        (
            (f"What does {a} do?", capital(f"{a} {job['does']}.")),
            (_what(rng, a), capital(f"{a} is a person who {job['does']}.")),
            (f"Where does {a} work?", capital(f"{a} works {at(job['place'])}.")),
            (f"Who {job['does']}?", capital(f"{a} {job['does']}.")),
        )
    )


def about_place(rng: random.Random) -> Pair:
    """What a place is and what is found there."""
    place = rng.choice(places())
    a = article(place.name)
    return rng.choice(
        (
            (_what(rng, a), capital(f"{a} is a place where {place['def']}.")),
            (f"What can I find {at(place.name)}?", f"You can find {place['has']} {at(place.name)}."),
            (f"What is {at(place.name)}?", f"There are {place['has']} {at(place.name)}."),
        )
    )


def about_term(rng: random.Random) -> Pair:
    """Definitions of computing terms and of general notions."""
    term, first, more = rng.choice(facts(rng.choice(("computing", "abstract"))))
    answer = first if rng.random() < 0.4 else f"{first} {more}"
    if rng.random() < 0.1:
        return f"Tell me something about {_bare(term)}.", f"{first} {more}"
    return _what(rng, term), answer


@cache
def fixed_questions() -> frozenset[str]:
    """Every question about a term and every single fact: training may ask all of these."""
    asked = {row[0] for row in facts("facts")}
    for term, *_ in facts("computing") + facts("abstract"):
        asked |= {form.format(x=term, bare=_bare(term)) for form in _WHAT}
        asked.add(f"Tell me something about {_bare(term)}.")
    return frozenset(asked)


def why(rng: random.Random) -> Pair:
    """Reasons of everyday facts."""
    clause, inverted, answer = rng.choice(facts("why"))
    forms = (
        f"Why {inverted}?",
        f"Why {inverted}?",
        f"Can you tell me why {clause}?",
        f"Please explain why {clause}.",
        f"What is the reason that {clause}?",
    )
    return rng.choice(forms), Scene(rng).fill(answer)


def how(rng: random.Random) -> Pair:
    """Instructions for everyday tasks."""
    task, answer = rng.choice(facts("how"))
    forms = (
        f"How do I {task}?",
        f"How do I {task}?",
        f"How can I {task}?",
        f"Tell me how to {task}.",
        f"What is the best way to {task}?",
        f"I want to {task}. What should I do?",
    )
    return rng.choice(forms), Scene(rng).fill(answer)


def when(rng: random.Random) -> Pair:
    """The right moment for everyday actions."""
    task, answer = rng.choice(facts("when"))
    forms = (
        f"When should I {task}?",
        f"When should I {task}?",
        f"When is it good to {task}?",
        f"When do I need to {task}?",
    )
    return rng.choice(forms), answer


def difference(rng: random.Random) -> Pair:
    """How two similar things differ."""
    pair, answer = rng.choice(facts("differences"))
    first, second = (part.strip() for part in pair.split(";"))
    forms = (
        f"What is the difference between {first} and {second}?",
        f"How is {first} different from {second}?",
        f"What is the difference between {second} and {first}?",
        f"Compare {first} and {second}.",
    )
    return rng.choice(forms), answer


def fixed(rng: random.Random) -> Pair:
    """Questions with one fixed answer, greetings included."""
    question, answer = rng.choice(facts("facts"))
    return question, Scene(rng).choose(answer)


def world_facts(rng: random.Random) -> Pair:
    """Capitals and colours."""
    if rng.random() < 0.5:
        country, city = rng.choice(columns("capitals"))
        return rng.choice(
            (
                (f"What is the capital of {country}?", f"The capital of {country} is {city}."),
                (f"In which country is {city}?", f"{city} is in {country}."),
            )
        )
    thing, colour = rng.choice(columns("colours"))
    return rng.choice(
        (
            (f"What colour is {thing}?", capital(f"{thing} is {colour}.")),
            (f"Which colour does {_bare(thing)} have?", capital(f"{thing} is {colour}.")),
        )
    )
