"""Stage 2: self-sampled answers and reworded instructions, generated once per content."""
