"""Draw small dialogues about a few topics: conversations to train on without a network.

Every question can be put in several ways. Some ways are held out: they occur in no training
conversation, so an answer to one shows what the model has understood of the others.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ostinato.data.text.template import Message

PLAIN_SYSTEM = "You are a helpful assistant."
SHORT_SYSTEM = "Answer with one word."


@dataclass(frozen=True)
class Topic:
    """Describe questions about some items; `{name}` in a text stands for a part of the item."""

    usual: tuple[str, ...]
    """Ways to ask in training conversations."""
    held_out: tuple[str, ...]
    """Ways to ask in validation and test."""
    answer: str
    short: str
    """Answer in one word; empty: there is none."""
    items: tuple[dict[str, str], ...]


def table(names: str, text: str) -> tuple[dict[str, str], ...]:
    """Read items: parts separated by colons, items by commas."""
    keys = names.split()
    rows = [row.strip().split(":") for row in text.split(",")]
    return tuple(dict(zip(keys, row, strict=True)) for row in rows)


COLOURS = Topic(
    usual=(
        "What colour is {thing}?",
        "Which colour does {thing} have?",
        "What is the colour of {thing}?",
        "Tell me the colour of {thing}.",
        "Do you know what colour {thing} is?",
        "Name the colour of {thing}.",
        "I would like to know the colour of {thing}.",
        "Please tell me which colour {thing} is.",
    ),
    held_out=(
        "Say what colour {thing} is.",
        "Can you tell me the colour of {thing}?",
        "Please name the colour that {thing} has.",
    ),
    answer="The colour of {thing} is {colour}.",
    short="{colour}",
    items=table(
        "thing colour",
        "the sky:blue, grass:green, snow:white, coal:black, a lemon:yellow, blood:red, an orange:"
        "orange, a banana:yellow, a strawberry:red, milk:white, chocolate:brown, a frog:green, "
        "the night:black, a cloud:white, the sea:blue, a tomato:red, a leaf:green, honey:yellow, "
        "a raven:black, a fox:orange, a pig:pink, an elephant:grey, a mouse:grey, a violet:purple",
    ),
)
CAPITALS = Topic(
    usual=(
        "What is the capital of {country}?",
        "Which city is the capital of {country}?",
        "Name the capital of {country}.",
        "Tell me the capital of {country}.",
        "Do you know the capital of {country}?",
        "{country} has which capital?",
        "I would like to know the capital of {country}.",
        "Please tell me which city is the capital of {country}.",
    ),
    held_out=(
        "Say what the capital of {country} is.",
        "Can you tell me the capital of {country}?",
        "Please name the city that is the capital of {country}.",
    ),
    answer="The capital of {country} is {city}.",
    short="{city}",
    items=table(
        "country city",
        "France:Paris, Germany:Berlin, Italy:Rome, Spain:Madrid, Portugal:Lisbon, Greece:Athens, "
        "Austria:Vienna, Poland:Warsaw, Norway:Oslo, Sweden:Stockholm, Finland:Helsinki, Japan:"
        "Tokyo, China:Beijing, Egypt:Cairo, Kenya:Nairobi, Peru:Lima, Cuba:Havana, Canada:Ottawa, "
        "Ireland:Dublin, Hungary:Budapest, Denmark:Copenhagen, Russia:Moscow, Iran:Tehran",
    ),
)
OPPOSITES = Topic(
    usual=(
        "What is the opposite of {word}?",
        "Which word is the opposite of {word}?",
        "Name the opposite of {word}.",
        "Tell me the opposite of {word}.",
        "Do you know the opposite of {word}?",
        "What word means the opposite of {word}?",
        "I would like to know the opposite of {word}.",
        "Please tell me which word is the opposite of {word}.",
    ),
    held_out=(
        "Say what the opposite of {word} is.",
        "Can you tell me the opposite of {word}?",
        "Please name the word that is the opposite of {word}.",
    ),
    answer="The opposite of {word} is {other}.",
    short="{other}",
    items=table(
        "word other",
        "hot:cold, cold:hot, big:small, small:big, old:new, new:old, fast:slow, slow:fast, open:"
        "closed, closed:open, full:empty, empty:full, light:dark, dark:light, high:low, low:high, "
        "happy:sad, sad:happy, wet:dry, dry:wet, hard:soft, soft:hard, early:late, late:early",
    ),
)
SOUNDS = Topic(
    usual=(
        "What does {animal} say?",
        "Which sound does {animal} make?",
        "What is the sound of {animal}?",
        "Tell me the sound of {animal}.",
        "Do you know what {animal} says?",
        "How does {animal} sound?",
        "I would like to know what {animal} says.",
        "Please tell me which sound {animal} makes.",
    ),
    held_out=(
        "Say what sound {animal} makes.",
        "Can you tell me what {animal} says?",
        "Please name the sound that {animal} makes.",
    ),
    answer="It says {sound}.",
    short="{sound}",
    items=table(
        "animal sound",
        "a cat:meow, a dog:woof, a cow:moo, a sheep:baa, a duck:quack, a lion:roar, a bee:buzz, "
        "a snake:hiss, a horse:neigh, an owl:hoot, a crow:caw, a hen:cluck",
    ),
)
NEXT_DAYS = Topic(
    usual=(
        "Which day comes after {day}?",
        "What day is it after {day}?",
        "Tell me the day after {day}.",
        "Today is {day}. What day is tomorrow?",
        "Name the day that follows {day}.",
        "I would like to know the day after {day}.",
    ),
    held_out=("Say which day comes after {day}.", "Can you tell me the day after {day}?"),
    answer="After {day} comes {next}.",
    short="{next}",
    items=table(
        "day next",
        "Monday:Tuesday, Tuesday:Wednesday, Wednesday:Thursday, Thursday:Friday, Friday:Saturday, "
        "Saturday:Sunday, Sunday:Monday",
    ),
)
SUMS = Topic(
    usual=(
        "What is {a} + {b}?",
        "{a} + {b} = ?",
        "How much is {a} + {b}?",
        "Tell me what {a} + {b} is.",
        "Compute {a} + {b}.",
        "Do you know how much {a} + {b} is?",
        "I would like to know {a} + {b}.",
        "Please add {a} + {b}.",
    ),
    held_out=(
        "Say how much {a} + {b} is.",
        "Can you tell me what {a} + {b} is?",
        "Please compute {a} + {b}.",
    ),
    answer="The answer is {c}.",
    short="{c}",
    items=tuple({"a": str(a), "b": str(b), "c": str(a + b)} for a in range(11) for b in range(11)),
)
DIFFERENCES = Topic(
    usual=tuple(way.replace("+", "-").replace("Please add ", "Take away: ") for way in SUMS.usual),
    held_out=tuple(way.replace("+", "-") for way in SUMS.held_out),
    answer=SUMS.answer,
    short=SUMS.short,
    items=tuple(
        {"a": str(a), "b": str(b), "c": str(a - b)} for a in range(11) for b in range(a + 1)
    ),
)
STORIES = Topic(
    usual=(
        "Tell me a story about a {hero}.",
        "Please tell me a story about a {hero}.",
        "I would like to hear a story about a {hero}.",
        "Do you know a story about a {hero}?",
        "A story about a {hero}, please.",
        "Can you tell a story with a {hero}?",
    ),
    held_out=("Can you tell me a story about a {hero}?", "Tell us a story about a {hero}, please."),
    answer="Once upon a time there was a {kind} {hero}. It lived in {place} and looked for "
    "{thing}. One day it found {thing} and was happy. The end.",
    short="",
    items=table(
        "hero kind place thing",
        "bear:big:the forest:honey, rabbit:little:the garden:a carrot, fish:blue:the sea:a friend, "
        "bird:small:a tree:a worm, wolf:grey:the hills:the moon, frog:green:a pond:a fly, "
        "king:old:a castle:his crown, robot:new:a city:a song, dragon:red:a cave:gold",
    ),
)
MANNERS = (
    (("Hello.", "Hi!", "Hello there!", "Good morning."), ("Hi there!",), "Hello! How are you?"),
    (("Thank you.", "Thanks!", "Thank you very much."), ("Many thanks.",), "You are welcome."),
    (("Goodbye.", "Bye!", "See you later."), ("Bye bye.",), "Goodbye!"),
    (
        ("Who are you?", "What are you?", "Tell me who you are."),
        ("Please say who you are.",),
        "I am a small language model.",
    ),
)
TOPICS = (
    *(COLOURS, CAPITALS, OPPOSITES, SOUNDS, NEXT_DAYS, SUMS, SUMS, DIFFERENCES, STORIES),
    *(Topic(usual, held_out, answer, "", ({},)) for usual, held_out, answer in MANNERS),
)
NAMES = "Anna Ben Clara David Emma Felix Grace Hugo Ida Jack Kate Leo Mia Noah Olga Paul".split()
INTRODUCTIONS = ("My name is {name}.", "I am {name}.", "Hello, I am {name}.", "Call me {name}.")
RECALLS = ("What is my name?", "Do you know my name?", "Tell me my name.", "Who am I?")
RECALLS_HELD_OUT = ("Say what my name is.", "Can you tell me my name?")


def dialogues(seed: int, held_out: bool) -> Iterator[tuple[Message, ...]]:
    """Yield dialogues without end; with `held_out`, the last question is put in such a way."""
    rng = np.random.default_rng([seed, held_out])

    def one_of(choices):
        return choices[rng.integers(len(choices))]

    while True:
        system = one_of(("", "", "", PLAIN_SYSTEM, SHORT_SYSTEM))
        messages = [Message("system", system)] if system else []
        count = int(one_of((1, 1, 2, 3)))
        name = one_of(NAMES) if count > 1 and rng.random() < 0.3 else ""
        for number in range(1, count + 1):
            is_last = number == count
            if name and number == 1:
                question, answer = one_of(INTRODUCTIONS), "Nice to meet you, {name}!"
                parts = {"name": name}
            elif name and is_last:
                question = one_of(RECALLS_HELD_OUT if held_out else RECALLS)
                answer = "{name}" if system == SHORT_SYSTEM else "Your name is {name}."
                parts = {"name": name}
            else:
                topic = one_of(TOPICS)
                question = one_of(topic.held_out if held_out and is_last else topic.usual)
                answer = topic.short if topic.short and system == SHORT_SYSTEM else topic.answer
                parts = one_of(topic.items)
            messages.append(Message("user", question.format(**parts)))
            messages.append(Message("assistant", answer.format(**parts)))
        yield tuple(messages)
