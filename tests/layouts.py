"""The dataset layouts of the ecosystem, each in a small file written by hand, and what the data check makes of them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "data" / "formats"


@dataclass(frozen=True)
class Layout:
    """A file, an objective that it is for, the format it must be taken for, and its first example."""

    file: str
    objective: str
    format: str
    first: dict[str, Any]
    examples: int
    columns: dict[str, str] = field(default_factory=dict, hash=False)
    """What the recipe maps."""

    @property
    def path(self) -> Path:
        return FOLDER / self.file

    def __str__(self) -> str:
        return f"{self.file}-{self.objective}"


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def pair(prompt: str, chosen: str, rejected: str | None) -> dict[str, Any]:
    return {"prompt": [user(prompt)], "chosen": [assistant(chosen)],
            "rejected": [assistant(rejected)] if rejected is not None else None}


def asked(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [user(question), assistant(answer)]}


_DRAWING = ("how can i develop a habit of drawing daily",
            "Start with five minutes a day at the same hour.", "Just draw.")
_HH = [user("What are some cuss words in english?"), assistant("Here's an incomplete list."),
       user("What's your favorite one?")]
_SKY = [user("What color is the sky?"), assistant("It is blue."), user("Why?")]
_ALPACA = "Give three tips for staying healthy."
_TIPS = "1. Eat a balanced diet.\n2. Exercise regularly.\n3. Get enough sleep."
_REQUEST = ("Below is an instruction that describes a task. Write a response that appropriately completes the request."
            f"\n\n### Instruction:\n{_ALPACA}\n\n### Response:\n{_TIPS}")
_AIRLINE = ("When did Virgin Australia start operating?\n\nVirgin Australia commenced services on 31 August 2000 as "
            "Virgin Blue, with two aircraft on a single route.")

LAYOUTS = (
    Layout("openai_messages.jsonl", "sft", "messages", {"messages": [
        system("Marv is a factual chatbot that is also sarcastic."), user("What's the capital of France?"),
        assistant("Paris, as if everyone doesn't know that already.")]}, 3),
    Layout("openai_preference.jsonl", "dpo", "preference", pair(
        "Hello, can you tell me how cold San Francisco is today?",
        "Today in San Francisco it is not quite as cold as expected: 16 degrees.",
        "It is not particularly cold in San Francisco today."), 2),
    Layout("sharegpt.json", "sft", "sharegpt", {"messages": [
        user("Summarize the main ideas of Jeff Walker's Product Launch Formula"),
        assistant("Here are the main ideas: build anticipation, tell a story, and open the cart once."),
        user("Make it shorter."), assistant("Anticipate, tell, open.")]}, 2),
    Layout("sharegpt_tools.jsonl", "sft", "sharegpt", {"messages": [
        system("You can convert units."), user("What is 12 inches in centimetres?"),
        assistant('{"name": "convert", "arguments": {"inches": 12}}'),
        {"role": "tool", "content": '{"centimetres": 30.48}'}, assistant("12 inches are 30.48 cm.")]}, 1),
    Layout("alpaca.json", "sft", "alpaca", asked(_ALPACA, _TIPS), 2),
    Layout("alpaca.json", "cpt", "text", {"text": _REQUEST}, 2),
    Layout("alpaca_history.jsonl", "sft", "alpaca", {"messages": [
        system("You are a weather clerk."), user("What is the weather today?"), assistant("It is sunny."),
        user("And tomorrow?"), assistant("It will rain.")]}, 1),
    Layout("dolly.jsonl", "sft", "alpaca", asked(
        _AIRLINE, "Virgin Australia commenced services on 31 August 2000 as Virgin Blue."), 2),
    Layout("gsm8k.jsonl", "sft", "prompt-completion", asked(
        "Weng earns $12 an hour for babysitting. Yesterday, she just did 50 minutes of babysitting. How much did she "
        "earn?", "Weng earns 12/60 = $<<12/60=0.2>>0.2 per minute.\nWorking 50 minutes, she earned 0.2 x 50 = "
        "$<<0.2*50=10>>10.\n#### 10"), 2),
    Layout("gsm8k.jsonl", "rlhf", "prompts", {
        "prompt": [user("Weng earns $12 an hour for babysitting. Yesterday, she just did 50 minutes of babysitting. "
                        "How much did she earn?")],
        "answer": "Weng earns 12/60 = $<<12/60=0.2>>0.2 per minute.\nWorking 50 minutes, she earned 0.2 x 50 = "
                  "$<<0.2*50=10>>10.\n#### 10"}, 2),
    Layout("prompt_completion.jsonl", "sft", "prompt-completion", asked("The sky is", " blue."), 2),
    Layout("support.csv", "sft", "prompt-completion", asked(
        "How do I reset my password?", 'Open Settings, then Security.\r\nPress "Reset".'), 2),
    Layout("faq.tsv", "sft", "prompt-completion", asked(
        "What is LoRA?", "Two small matrices beside each frozen layer."), 2),
    Layout("ticket_export.csv", "sft", "prompt-completion", asked(
        "My parcel is late.", "I am sorry, it arrives on Monday."), 2,
        {"prompt": "customer_said", "completion": "agent_said"}),
    Layout("ultrafeedback.jsonl", "dpo", "preference", pair(*_DRAWING), 2),
    Layout("ultrafeedback.jsonl", "sft", "messages", asked(*_DRAWING[:2]), 2),
    Layout("trl_implicit_prompt.jsonl", "dpo", "preference", {
        "prompt": _SKY, "chosen": [assistant("Air scatters blue light most.")],
        "rejected": [assistant("Nobody knows.")]}, 1),
    Layout("trl_implicit_prompt.jsonl", "reward", "preference", {
        "chosen": [*_SKY, assistant("Air scatters blue light most.")],
        "rejected": [*_SKY, assistant("Nobody knows.")]}, 1),
    Layout("orca_dpo_pairs.jsonl", "dpo", "preference", pair(
        "Generate an approximately fifteen-word sentence that describes all this data: Midsummer House eatType "
        "restaurant", "Midsummer House is a moderately priced Chinese restaurant with a 3/5 customer rating.",
        " Sure! Here's a sentence that describes all the data you provided."), 2),
    Layout("alpaca_dpo.json", "dpo", "preference", pair(
        "Translate to German.\n\ngood morning", "Guten Morgen", "Gute Nacht"), 1),
    Layout("sharegpt_dpo.json", "dpo", "preference", pair("What is 2 + 2?", "4", "5"), 1),
    Layout("sharegpt_dpo.json", "sft", "preference", asked("What is 2 + 2?", "4"), 1),
    Layout("hh_rlhf.jsonl", "dpo", "preference", {
        "prompt": _HH, "chosen": [assistant("I haven't even thought about it.")],
        "rejected": [assistant("Ha! Fine. I have a few, but number 1 would definitely be 'darn'.")]}, 1),
    Layout("hh_rlhf.jsonl", "rt", "preference", {
        "chosen": "I haven't even thought about it.",
        "rejected": "Ha! Fine. I have a few, but number 1 would definitely be 'darn'."}, 1),
    Layout("hh_rlhf_prompt.jsonl", "dpo", "preference", pair(
        "Is it safe to eat raw eggs?", " It carries a small risk of salmonella.", " Yes, always."), 1),
    Layout("stack_exchange_paired.jsonl", "dpo", "preference", pair(
        "How do I exit vim?", "Press Esc, then type :q! and Enter.", "Pull the plug."), 1),
    Layout("orpo_mixed.jsonl", "orpo", "preference", pair("Name a prime.", "Seven.", "Nine."), 4),
    Layout("openai_messages.jsonl", "orpo", "messages", {
        "prompt": [system("Marv is a factual chatbot that is also sarcastic."), user("What's the capital of France?")],
        "chosen": [assistant("Paris, as if everyone doesn't know that already.")], "rejected": None}, 3),
    Layout("kto_mix.jsonl", "kto", "kto", {
        "prompt": [user("Which planet is the largest?")], "completion": [assistant("Jupiter.")], "label": True}, 2),
    Layout("kto_thumbs.csv", "kto", "kto", {
        "prompt": [user("Which planet is red?")], "completion": [assistant("Mars.")], "label": True}, 2),
    Layout("llamafactory_kto.json", "kto", "kto", {
        "prompt": [user("Say hi.")], "completion": [assistant("Hi!")], "label": True}, 2),
    Layout("sharegpt_dpo.json", "kto", "preference", {
        "prompt": [user("What is 2 + 2?")], "completion": [assistant("4")], "label": True}, 2),
    Layout("c4.jsonl", "cpt", "text", {"text": "Beginners BBQ Class Taking Place in Missoula!\nDo you want to get "
                                       "better at making delicious BBQ?"}, 2),
    Layout("book.txt", "cpt", "text", {"text": "It was a bright cold day in April,\nand the clocks were striking."}, 3),
    Layout("sentences.txt", "cpt", "text", {"text": "The first sentence is a row."}, 2),
    Layout("notes.md", "cpt", "text", {"text": "# Fine-tuning"}, 3),
    Layout("accepted_rejected.csv", "rt", "accepted-rejected", {
        "chosen": "The meeting is at nine.", "rejected": "meeting nine ok??"}, 2),
    Layout("accepted_rejected.csv", "reward", "accepted-rejected", {
        "chosen": "The meeting is at nine.", "rejected": "meeting nine ok??"}, 2),
    Layout("prompts.jsonl", "rlhf", "prompts", {
        "prompt": [user("What is 3 + 4?")], "answer": "7", "difficulty": 1, "solved": False}, 2),
    Layout("math_problems.jsonl", "rlhf", "prompts", {
        "prompt": [user("Find x if 2x = 10.")], "solution": "5", "answer": "5", "level": "Level 1"}, 1),
)
