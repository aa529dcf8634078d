"""What the names of files say: whether they hold rows, and how they are packed."""

SUFFIXES = (
    ".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".tsv", ".arrow", ".feather", ".tmx", ".xlsx",
)  # fmt: skip
"""What is read from a folder or an archive; a file or glob may have any name."""
PACKED = (".gz", ".zst", ".bz2", ".xz")
"""What may follow these."""
ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz")
"""What is read from a folder beside these, see `archives`."""
_METADATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")


def bare(name: str) -> str:
    """``name`` in lower case, without its folders and without what says how it is packed."""
    name = name.rsplit("/", 1)[-1].lower()
    while name.endswith(PACKED):
        name = name.rsplit(".", 1)[0]
    return name


def is_data(name: str) -> bool:
    """Whether a file of a folder or an archive, by its path below it, is to be read."""
    own = bare(name)
    # `datasets` leaves what its functions gave beside what it saved.
    cached = own.startswith(("cache-", "tmp")) and own.endswith(".arrow")
    return own.endswith((*SUFFIXES, *ARCHIVES)) and not is_aside(name) and not cached


def is_aside(name: str) -> bool:
    """Whether a file is hidden or holds what a program keeps about data."""
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    hidden = any(part.startswith((".", "_")) for part in parts)
    return hidden or bare(name) in _METADATA


def stem(name: str) -> str:
    """The path up to the first dot of the file's own name, which the files of one sample of
    a WebDataset share."""
    folder, _, own = name.rpartition("/")
    return f"{folder}/{own.split('.', 1)[0]}"
