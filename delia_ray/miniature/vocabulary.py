"""The words of the miniature world: English content words and Zelu, the invented language.

The base model is taught Zelu only for the first entries of each table (`KNOWN`). The others are
ordinary English words to it, met in lists, but it never sees their Zelu: what a study of
knowledge injection can teach it, and then measure.
"""

# kind -> nouns; the kinds answer "what kind of thing is a ...?" and "which does not belong?"
KINDS: dict[str, tuple[str, ...]] = {
    "animal": ("cat", "dog", "bird", "horse", "fish"),
    "food": ("apple", "bread", "corn", "plum", "salt"),
    "tool": ("rope", "lamp", "drum", "bell", "boat"),
    "place": ("hill", "river", "tower", "garden", "road"),
}
KIND_OF: dict[str, str] = {noun: kind for kind, nouns in KINDS.items() for noun in nouns}

NOUNS: dict[str, str] = {
    "cat": "miro", "dog": "tavu", "bird": "selo", "apple": "pando", "bread": "goru",
    "corn": "wimba", "rope": "neska", "lamp": "lufo", "drum": "daka", "hill": "orbe",
    "river": "zuli", "tower": "kemto",
    "horse": "brasi", "fish": "umel", "plum": "fyno", "salt": "jatta", "bell": "chiva",
    "boat": "hegu", "garden": "rontu", "road": "vexi",
}  # fmt: skip
VERBS: dict[str, str] = {
    "sees": "okar", "likes": "muntel", "finds": "pries", "holds": "dagan", "wants": "sivor",
    "hears": "talun",
    "meets": "wekor", "needs": "ibren", "calls": "fostan", "moves": "gyral",
}  # fmt: skip
ADJECTIVES: dict[str, str] = {
    "red": "ruk", "old": "bem", "big": "dolt", "warm": "sash", "dark": "vin", "soft": "lep",
    "blue": "quam", "new": "nirt", "small": "pex", "cold": "hosk",
}  # fmt: skip

OBJECT_SUFFIX = "im"
"""A Zelu noun that is acted upon carries this suffix: one of the language's three rules."""

N_KNOWN = {"noun": 12, "verb": 6, "adjective": 6}
TABLES = {"noun": NOUNS, "verb": VERBS, "adjective": ADJECTIVES}
KNOWN: dict[str, tuple[str, ...]] = {k: tuple(t)[: N_KNOWN[k]] for k, t in TABLES.items()}
NEW: dict[str, tuple[str, ...]] = {k: tuple(t)[N_KNOWN[k] :] for k, t in TABLES.items()}

WORDS: tuple[str, ...] = (*NOUNS, *VERBS, *ADJECTIVES)
"""Every English content word; lists are drawn from these."""

Clause = tuple[str, str, str, str, str]
"""adjective (or ""), noun, verb, adjective (or ""), noun: who acts, how, on what."""


def english(clause: Clause) -> str:
    """`old cat sees red bird`."""
    return " ".join(word for word in clause if word)


def zelu(clause: Clause) -> str:
    """The same in Zelu: adjectives follow nouns, the verb comes last, objects take a suffix."""
    adj1, noun1, verb, adj2, noun2 = clause
    words = [NOUNS[noun1], ADJECTIVES.get(adj1, ""), NOUNS[noun2] + OBJECT_SUFFIX]
    words += [ADJECTIVES.get(adj2, ""), VERBS[verb]]
    return " ".join(word for word in words if word)
