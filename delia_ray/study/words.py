"""What the page of the claims says in words: the paper's figures, and how ours came to be."""

PAPER = {
    "translation": "Icelandic to English, gemma-7b-it: BLEURT 17 % to 33 % above common tuning.",
    "generation": "Llama2-7b-chat: accuracy of formatted answers 36.1 % above common tuning.",
    "meaning": "<sep> works on prompts never seen, and “DO NOT the <sep> format” gives a plain "
    "answer.",
    "distance": "Distances end near 6.9 without diverse data, 5.5 at 135x, 5.1 at 260x, 4.8 at "
    "520x.",
}
"""Claim -> what the paper shows (its abstract, and the figure of its README)."""

SAYS = {
    "volume": "diverse rows with the corpus's reference answers, against none",
    "self-sampling": "the model's own answers, against the reference answers",
    "rewording": "downstream rows in several wordings, against one, beside diverse rows",
    "rewording alone": "downstream rows in several wordings, against one, without diverse rows",
    "interplay": "what rewording brings beside diverse rows, less what it brings alone",
}
"""Contrast of ``claims.Parts`` -> what differs between its two sides."""

METHOD = [
    "Equal steps: every training has so many optimizer steps of so many rows. Equal exposure: "
    "every training ends when it has seen so many downstream rows, so a high ratio trains longer. "
    "One training serves both: its rate is constant, and it is kept as of both steps.",
    "Seeds differ in the order of the mix, first values and dropout; all read one pool of "
    "self-sampled answers, and all answer the same held-out prompts.",
    "An interval is over seeds and prompts (two-way random effects, t with Satterthwaite's "
    "degrees of freedom). The claims at equal steps share an error of 5 % (Bonferroni), so do "
    "those at equal exposure; the single comparisons behind a claim share its part (Holm).",
    "Holds: the interval lies wholly on the claimed side of 0. Does not hold: wholly on the other "
    "side. Cannot tell: it contains 0; the smallest effect is that which such a study would have "
    "seen in 80 of 100 cases.",
    "A comparison with common instruction tuning takes the mean of the ratios that the paper uses "
    "({ratios}). The distance's slope is over the base-2 logarithm of 1 + ratio.",
]
"""``{ratios}``: those of ``Study.paper_ratios``."""
