"""Stage 3: ``ratio`` diverse rows for each downstream row, in one exact order."""
