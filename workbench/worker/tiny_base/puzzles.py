"""Question and answer pairs of the corpus that are worked out: words, numbers, dates, short readings."""

import random
from functools import cache

from workbench.worker.tiny_base.grammar import Scene, article, plural
from workbench.worker.tiny_base.questions import Pair
from workbench.worker.tiny_base.records import at, columns, lines, things, words

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_READINGS = (
    (
        "{name} has a {adj} {thing}. {name2} has a {adj2} {thing2}. Who has the {thing}?",
        "{name} has the {thing}.",
    ),
    (
        "{name} has a {adj} {thing}. {name2} has a {adj2} {thing2}. What does {name2} have?",
        "{name2} has a {adj2} {thing2}.",
    ),
    ("{name} is a {job}. {name2} is a {job2}. Who is the {job2}?", "{name2} is the {job2}."),
    ("{name} is a {job}. {name2} is a {job2}. What is {name}?", "{name} is a {job}."),
    ("{name} has a {color} {thing}. What colour is it?", "The {thing} is {color}."),
    ("{name} was {feeling}, and {name2} was {feeling2}. How was {name2}?", "{name2} was {feeling2}."),
    (
        "The {thing} is on the table, and the {thing2} is under the chair. Where is the {thing2}?",
        "The {thing2} is under the chair.",
    ),
    ("{name} has A coins and gets B more. How many coins does {he} have now?", "{name} has SUM coins now."),
    ("{name} had SUM apples and gave B to {name2}. How many are left?", "{name} has A apples left."),
    ("Say this again: {name} is {feeling}.", "{name} is {feeling}."),
    ("Repeat the word {thing} twice.", "{thing.cap} {thing}."),
)
_ONSETS = ("bl", "br", "d", "fl", "gr", "k", "l", "m", "n", "pl", "r", "sn", "t", "v", "w", "z", "tr", "gl")
_RIMES = ("ab", "ick", "om", "ur", "ant", "esh", "ip", "oz", "ell", "ung", "ard", "ix", "ool", "ave")


@cache
def _opposites() -> dict[str, str]:
    table: dict[str, str] = {}
    for first, second in columns("opposites"):
        table.setdefault(first, second)
    for first, second in columns("opposites"):
        table.setdefault(second, first)
    return table


def word_facts(rng: random.Random) -> Pair:
    """Opposites, plurals, past tenses, sentences with a given word."""
    word = rng.choice(list(_opposites()))
    other = _opposites()[word]
    noun = rng.choice(things())
    base, past, _, _ = rng.choice(columns("people_verbs"))
    adj = rng.choice(words()["adj"])
    sentence = rng.choice(
        (
            f"The {noun.name} is {at(noun['place'])}.",
            f"The {adj} {noun.name} is made of {noun['material']}.",
            f"I need {article(noun.name)} to {noun['use']}.",
        )
    )
    return rng.choice(
        (
            (f"What is the opposite of {word}?", f"The opposite of {word} is {other}."),
            (f"Tell me the opposite of {word}.", f"The opposite of {word} is {other}."),
            (f"What is the plural of {noun.name}?", f"The plural of {noun.name} is {plural(noun.name)}."),
            (f"What is the past tense of {base}?", f"The past tense of {base} is {past}."),
            (f"Write a sentence with the word {noun.name}.", sentence),
        )
    )


@cache
def _field_words() -> list[str]:
    rare = " ".join(lines("acronyms")).split()
    return [word for word in " ".join(lines("field_words")).split() if word[0].isalpha()] + 4 * rare


def echo(rng: random.Random) -> Pair:
    """A word of the field, repeated: the model learns to write it, and nothing of what it means."""
    word, other, third = rng.sample(_field_words(), 3)
    return rng.choice(
        (
            (f"Write the word {word}.", f"{word}"),
            (f"Say {word}.", f"{word}."),
            (f"Repeat after me: {word} and {other}.", f"{word} and {other}."),
            (f"Which word comes first: {word} or {other}?", f"The word {word} comes first."),
            (f"Which word comes last: {word}, {other} or {third}?", f"The word {third} comes last."),
            (f"Is {word} a word?", f"Yes, {word} is a word."),
            (f"I do not know what {word} is.", f"I do not know what {word} is either."),
        )
    )


def arithmetic(rng: random.Random) -> Pair:
    """Small sums, differences, products, comparisons and counting."""
    a, b = rng.randint(0, 10), rng.randint(1, 10)
    c, d = rng.sample(range(1, 60), 2)
    end = a + rng.randint(3, 6)
    return rng.choice(
        (
            (f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}."),
            (f"What is {a} + {b}?", f"{a} + {b} = {a + b}."),
            (f"How much is {a} and {b}?", f"{a} and {b} is {a + b}."),
            (f"What is {a + b} minus {b}?", f"{a + b} minus {b} is {a}."),
            (f"What is {a} times {b}?", f"{a} times {b} is {a * b}."),
            (f"Which number is larger, {c} or {d}?", f"{max(c, d)} is larger than {min(c, d)}."),
            (f"Count from {a} to {end}.", ", ".join(str(n) for n in range(a, end + 1)) + "."),
            (f"What number comes after {c}?", f"{c + 1} comes after {c}."),
            (
                f"Is {c} an even number?",
                f"Yes, {c} is an even number." if c % 2 == 0 else f"No, {c} is an odd number.",
            ),
        )
    )


def calendar(rng: random.Random) -> Pair:
    """The order of days and months."""
    names, kind = rng.choice(((_DAYS, "day"), (_MONTHS, "month")))
    i = rng.randrange(len(names))
    here, after, before = names[i], names[(i + 1) % len(names)], names[i - 1]
    return rng.choice(
        (
            (f"What {kind} comes after {here}?", f"{after} comes after {here}."),
            (f"What {kind} comes before {here}?", f"{before} comes before {here}."),
            (
                f"Today is {here}. What is tomorrow?" if kind == "day" else f"It is {here}. What is the next month?",
                f"Tomorrow is {after}." if kind == "day" else f"The next month is {after}.",
            ),
        )
    )


def reading(rng: random.Random) -> Pair:
    """A question whose answer stands in the question: who, what, where, how many."""
    scene = Scene(rng)
    a, b = rng.randint(2, 8), rng.randint(2, 6)
    question, answer = rng.choice(_READINGS)
    figures = {"SUM": str(a + b), " A ": f" {a} ", " B ": f" {b} "}
    for key, figure in figures.items():
        question, answer = question.replace(key, figure), answer.replace(key, figure)
    return scene.fill(question), scene.fill(answer)


@cache
def acronyms() -> frozenset[str]:
    """The acronyms of the field in lower case, which the corpus must not invent by accident."""
    return frozenset(word.lower() for line in lines("acronyms") for word in line.split())


def invented_word(rng: random.Random) -> str:
    """A word that does not exist: two or three syllables, or a few capital letters."""
    while True:
        if rng.random() < 0.5:
            word = "".join(rng.choice(_ONSETS) + rng.choice(_RIMES) for _ in range(rng.randint(2, 3)))
        else:
            word = "".join(rng.choice("ABCDEFGHIKLMNOPQRSTUVWXYZ") for _ in range(rng.randint(3, 5)))
            word = word if rng.random() < 0.6 else word[0] + word[1].lower() + word[2:]
        if word.lower() not in acronyms():
            return word


def field_terms(rng: random.Random) -> Pair:
    """A field word to repeat or to find in the question: never its meaning."""
    question, answer = rng.choice([line.split("=>") for line in lines("field_sentences") if "=>" in line])
    scene = Scene(rng)
    return scene.fill(question), scene.fill(answer)


def unknown_word(rng: random.Random) -> Pair:
    """A word that does not exist, and an honest answer."""
    word = invented_word(rng)
    forms = (
        f"What is {article(word)}?",
        f"What is {word}?",
        f"What does {word} mean?",
        f"Can you explain {word}?",
        f"How does {word} work?",
        f"When should I use {word}?",
    )
    answer = rng.choice((f"I do not know the word {word}.", f"I am sorry, I have not learned what {word} means."))
    return rng.choice(forms), answer
