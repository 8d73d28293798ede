"""Plain-text documents of the corpus: stories, descriptions, everyday sentences, explanations."""

import random

from workbench.worker.tiny_base.grammar import Scene, article
from workbench.worker.tiny_base.records import at, blocks, capital, columns, facts, lines, words

_PAST = (
    "{time.cap}, {name} {past} {object}.",
    "{name} {past} {object} {time}.",
    "{name} {past} {object}.",
    "{name} and {name2} {past} {object} {time}.",
    "{name} {past} {object} because {he} was {feeling}.",
    "{name} was {feeling} when {he} {past} {object}.",
    "While {name2} slept, {name} {past} {object}.",
    "{name} {past} {object}, and then {he} went home.",
    "{name} never {past} {object}.",
    "My {relation} {past} {object} {time}.",
    "Did you know that {name} {past} {object}?",
    "{name} said that {name2} {past} {object}.",
    "The {job} {past} {object} {adv}.",
)
_BASE = (
    "{name} wants to {base} {object}.",
    "{name} did not {base} {object} {time}.",
    "Can you {base} {object}?",
    "Please {base} {object}.",
    "Tomorrow {name} will {base} {object}.",
    "{name} likes to {base} {object} {habit}.",
    "It is easy to {base} {object}.",
    "{name} must {base} {object} before dinner.",
    "We should {base} {object}.",
    "{name} is too {feeling} to {base} {object}.",
    "Why did {name} {base} {object}?",
    "{name} asked me to {base} {object}.",
    "Let us {base} {object} together.",
    "If {name} has time, {he} will {base} {object}.",
    "{name} could not {base} {object}, so {he} called {name2}.",
    "I would like to {base} {object} {habit}.",
)
_THIRD = (
    "{habit.cap}, {name} {third} {object}.",
    "{name} {third} {object} {habit}.",
    "{name} often {third} {object}.",
    "The {quality} {job} {third} {object}.",
    "{name} {third} {object}, but {name2} does not.",
    "{name} always {third} {object} when {he} is {feeling}.",
    "Nobody {third} {object} as {adv} as {name}.",
)


def sentence(rng: random.Random, scene: Scene) -> str:
    """One everyday sentence about the scene's people, in one of three tenses."""
    base, past, third, objects = rng.choice(columns("people_verbs"))
    form = rng.choice(("past", "base", "third"))
    template = rng.choice({"past": _PAST, "base": _BASE, "third": _THIRD}[form])
    text = template.replace("{" + form + "}", {"past": past, "base": base, "third": third}[form])
    text = text.replace("{object}", rng.choice(objects.split("|")))
    for kind in ("time", "habit"):
        text = text.replace("{" + kind + ".cap}", capital(rng.choice(words()[kind])))
    text = text.replace("{adv}", rng.choice(["slowly", "quickly", "carefully", "quietly", "gladly", "calmly"]))
    return scene.fill(text)


def everyday(rng: random.Random) -> str:
    """Two to five sentences about the same people."""
    scene = Scene(rng)
    return " ".join(sentence(rng, scene) for _ in range(rng.randint(2, 5)))


def story(rng: random.Random) -> str:
    """A short story with consistent names and things."""
    return Scene(rng).fill(rng.choice(blocks("stories")))


def description(rng: random.Random) -> str:
    """One or two short paragraphs about a thing, an animal, a person, a place or the weather."""
    return " ".join(Scene(rng).fill(rng.choice(blocks("describe"))) for _ in range(rng.randint(1, 2)))


def explanation(rng: random.Random) -> str:
    """Two to four definitions of one area, as running text."""
    area = facts(rng.choice(("computing", "computing", "abstract")))
    parts = []
    for _, first, more in rng.sample(area, rng.randint(2, 4)):
        parts.append(f"{first} {more}" if rng.random() < 0.8 else first)
    return " ".join(parts)


def advice(rng: random.Random) -> str:
    """How to do something, why something is so, or when to do it, as plain text."""
    scene = Scene(rng)
    kind = rng.choice(("how", "why", "when", "differences"))
    row = rng.choice(facts(kind))
    if kind == "how":
        return scene.fill(f"How to {row[0]}: {row[1]}")
    return scene.fill(row[-1])


def field_talk(rng: random.Random) -> str:
    """One or two sentences in which words of the field occur, without their meaning."""
    scene = Scene(rng)
    plain = [line for line in lines("field_sentences") if "=>" not in line]
    return " ".join(scene.fill(line) for line in rng.sample(plain, rng.randint(1, 2)))


def filler(rng: random.Random) -> str:
    """One to three sentences with the general vocabulary of explanations."""
    return " ".join(Scene(rng).fill(line) for line in rng.sample(lines("filler_sentences"), rng.randint(1, 3)))


def number_line(rng: random.Random) -> str:
    """A few lines of counting or sums."""
    if rng.random() < 0.4:
        start, step = rng.randint(0, 20), rng.choice((1, 1, 1, 2, 5, 10))
        return ", ".join(str(start + step * i) for i in range(rng.randint(5, 10))) + "."
    sums = []
    for _ in range(rng.randint(3, 6)):
        a, b = rng.randint(0, 12), rng.randint(0, 12)
        sums.append(f"{a} + {b} = {a + b}." if rng.random() < 0.6 else f"{a + b} - {a} = {b}.")
    return " ".join(sums)


def inventory(rng: random.Random) -> str:
    """A small list with a heading, one item a line."""
    scene = Scene(rng)
    place = rng.choice(columns("places"))[0]
    slots = [f"{{thing{i}}}" for i in range(1, rng.randint(4, 6))]
    items = [scene.fill("{adj} " + slot if rng.random() < 0.5 else slot) for slot in slots]
    return f"Things {at(place)}:\n" + "\n".join(f"- {article(item.lower())}" for item in items)


PROSE = (
    (story, 30),
    (description, 17),
    (everyday, 16),
    (explanation, 12),
    (advice, 8),
    (field_talk, 7),
    (filler, 6),
    (number_line, 2),
    (inventory, 2),
)
"""Document makers with their shares among the plain documents."""
