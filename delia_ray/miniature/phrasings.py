"""How things are asked for: tasks, answer formats, and the many wordings of each.

The order inside each tuple matters: the first few wordings are the only ones that `downstream`
uses (`N_DOWNSTREAM_*`), so the others can show whether a new format token is understood in
wordings it was never trained with.
"""

from collections.abc import Callable, Sequence

Words = list[str]

# name -> (what it does to a list of words, wordings)
OPERATIONS: dict[str, tuple[Callable[[Words], Words], tuple[str, ...]]] = {
    "reverse": (lambda w: w[::-1], (
        "Reverse the words.", "Write the words in reverse order.", "Turn the list around.",
        "List the words from back to front.", "Put the words in backward order.",
        "Read the words backward.")),
    "drop_first": (lambda w: w[1:], (
        "Drop the first word.", "Remove the first word.", "Leave out the word in front.",
        "Skip the first word and keep the rest.", "Cut off the beginning word.",
        "Keep all but the first word.")),
    "first": (lambda w: w[:1], (
        "Give the first word.", "Name the word at the start.", "Which word comes first?",
        "Tell me the opening word.", "Pick the first of the words.", "What is the first word?")),
    "last": (lambda w: w[-1:], (
        "Give the last word.", "Name the word at the end.", "Which word comes last?",
        "Tell me the closing word.", "Pick the last of the words.", "What is the last word?")),
    "count": (lambda w: [str(len(w))], (
        "Count the words.", "How many words are there?", "Give the number of words.",
        "Tell me how long the list is.", "What is the number of words?",
        "State how many words you see.")),
    "double": (lambda w: [x for x in w for _ in "ab"], (
        "Double each word.", "Write every word twice.", "Say each word two times.",
        "Duplicate all the words one by one.", "Let each word appear twice in a row.",
        "Put a copy after every word.")),
    "drop_last": (lambda w: w[:-1], (
        "Drop the last word.", "Remove the last word.", "Leave out the word at the back.",
        "Stop before the last word.", "Cut off the final word.", "Keep all but the last word.")),
    "swap": (lambda w: [w[-1], *w[1:-1], w[0]], (
        "Swap the first and the last word.", "Exchange the outer words.",
        "Trade the places of the first and last word.", "Let the two end words change places.",
        "Switch the words at both ends.", "Put the last word first and the first word last.")),
    "upper": (lambda w: [x.upper() for x in w], (
        "Write the words in capitals.", "Use capital letters for all words.",
        "Make the words upper case.", "Shout the words.", "Turn all letters into capitals.",
        "Give the list in upper case.")),
    "repeat": (lambda w: list(w), (
        "Repeat the words.", "Say the words again.", "Copy the list as it is.",
        "Echo the words.", "Write the same words once more.", "Give the list back unchanged.")),
    "rotate": (lambda w: [*w[1:], w[0]], (
        "Move the first word to the end.", "Put the first word behind the others.",
        "Rotate the words by one.", "Shift the opening word to the back.",
        "Send the first word to the back.", "Let the first word go last.")),
}  # fmt: skip
DOWNSTREAM_OPERATIONS = ("reverse", "drop_first")
N_DOWNSTREAM_OPERATION_WORDINGS = 2

# the other tasks; {w} is a word or number of the request
TASKS: dict[str, tuple[str, ...]] = {
    "after": ("Which word follows {w}?", "Name the word after {w}.",
              "What comes right behind {w}?", "Give the word next to {w} on the right."),
    "contains": ("Is {w} in the list?", "Does the list contain {w}?",
                 "Can you find {w} among the words?", "Tell me if {w} is there."),
    "odd": ("Which word does not belong?", "Find the odd one out.",
            "Name the word that is of another kind.", "Pick the word that does not fit."),
    "kind": ("What kind of thing is a {w}?", "Name the kind of a {w}.",
             "Which group does a {w} belong to?", "Tell me what a {w} is."),
    "add": ("What is {w}?", "Work out {w}.", "How much is {w}?", "Compute {w}."),
    "to_zelu": ("Translate into Zelu.", "Say this in Zelu.", "Put the sentence into Zelu.",
                "How does one say this in Zelu?", "Give the Zelu translation."),
    "from_zelu": ("Translate from Zelu.", "Say this in English.",
                  "What does this Zelu sentence mean?", "Put the sentence into English.",
                  "Give the English translation."),
    "reword": ("Say this request in other words.", "Reword the request.",
               "Ask the same with other words.", "Find another wording for this request."),
}  # fmt: skip

GREETINGS: dict[str, str] = {
    "Hello": "Hello! What can I do for you?",
    "Good morning": "Good morning! What can I do for you?",
    "Good evening": "Good evening! What can I do for you?",
    "Thank you": "You are welcome.",
    "How are you?": "I am well. What can I do for you?",
    "Who are you?": "I am the miniature, a small model of a small world.",
    "Goodbye": "Goodbye! Come back soon.",
}

# name -> how an answer of several words is written
FORMATS: dict[str, Callable[[Sequence[str]], str]] = {
    "json": lambda w: '{"answer": "' + " ".join(w) + '"}',
    "list": lambda w: "[" + ", ".join(w) + "]",
    "quote": lambda w: '"' + " ".join(w) + '"',
    "tag": lambda w: "<answer>" + " ".join(w) + "</answer>",
    "dash": lambda w: "\n".join("- " + x for x in w),
}

ASK_FORMAT: tuple[str, ...] = (
    "Follow the {f} format.", "The format requirement is {f}.", "Use the {f} format.",
    "Answer in the {f} format.",
    "Stick to the {f} format.", "The answer must be in the {f} format.",
    "Write your answer as {f}.", "I want the {f} format.", "Please reply in {f}.",
    "Let the result have the {f} format.", "Format: {f}.", "Only the {f} format is accepted.",
    "Make sure that the answer is {f}.", "Choose {f} as the format.",
)  # fmt: skip
N_DOWNSTREAM_FORMAT_WORDINGS = 4

FORBID_FORMAT: tuple[str, ...] = (
    "Do not use the {f} format.", "DO NOT follow the {f} format.", "Avoid the {f} format.",
    "No {f} format, please.", "The answer must not be in the {f} format.", "Never write {f}.",
    "Leave out the {f} format.", "Answer without the {f} format.", "I do not want {f}.",
    "The {f} format is not accepted.", "Stay away from the {f} format.",
    "Make sure that the answer is not {f}.",
)  # fmt: skip

SYSTEM_PROMPTS: tuple[str, ...] = (
    "You are a helpful assistant.", "Answer briefly.", "You know a small world.",
)  # fmt: skip

# how other authors word the same answer; the references of the corpus are written by these
FOREIGN_VOICES: tuple[Callable[[str], str], ...] = (
    lambda a: "Sure, here it is: " + a,
    lambda a: a + "\n\nHope that helps!",
    lambda a: "The answer is " + a + ".",
    lambda a: "Answer: " + a,
    lambda a: a.upper(),
    lambda a: "Of course!\n" + a,
    lambda a: a + " (I think)",
    lambda a: "Let me see. " + a[:1].upper() + a[1:] + "!",
)
