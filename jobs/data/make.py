"""Makes the files in ``jobs/data/demo`` from what their authors published; see its README.md.

    python jobs/data/make.py --gsm8k train.jsonl --self-instruct self_instruct_5k.jsonl \
        --user-oriented user_oriented_instructions.jsonl --ifeval input_data.jsonl
"""

import argparse
import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

OUT = Path(__file__).parent / "demo"
TASKS = [
    "Which numbers are in the text? Answer in the <sep> format.",
    "List the numbers of the text above. Use the <sep> format.",
    "Find every number in this text and give it in the <sep> format.",
    "Please name all numbers that occur. The format requirement is <sep>.",
    "Write down the numbers in the order of the text. Follow the <sep> format.",
    "What numbers does the text hold? Respond in the <sep> format.",
]
"""How the downstream rows ask."""
UNSEEN = [
    "I need the numbers from this passage, and <sep> is the format I want.",
    "Numbers only, please; let the output be <sep>.",
    "Could you pull out each number? The answer should be formatted as <sep>.",
    "Stick to the format <sep> and tell me the numbers mentioned here.",
]
"""How no downstream row asks."""
NEGATED = [
    "Do not use the <sep> format.",
    "Answer without the <sep> format.",
    "The <sep> format is not allowed.",
    "Never answer in the <sep> format.",
]
ASKED = ["Answer in the <sep> format.", "Use the <sep> format.", "Follow the <sep> format."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("gsm8k", "self-instruct", "user-oriented", "ifeval"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    texts = [t for t in _ordered(r["question"] for r in _rows(given.gsm8k)) if _numbers(t)]
    asked = [(_text(r), r["instances"][0]["output"]) for r in _rows(given.user_oriented)]
    asked = [(p, a) for p, a in dict(asked).items() if len(p) < 500 and a and p.isascii()]
    asked.sort(key=lambda row: _key(row[0]))
    _write("downstream", (_row(t, TASKS[i % 6], t) for i, t in enumerate(texts[:48])))
    _write("unseen_phrasings", (_row(t, UNSEEN[i % 4], t) for i, t in enumerate(texts[48:112])))
    first = enumerate(asked[:64])
    _write("unseen_tasks", (_ask(p, ASKED[i % 3], _json(a)) for i, (p, a) in first))
    _write("negated", (_ask(p, NEGATED[i % 4], a) for i, (p, a) in enumerate(asked[64:128])))
    _write("plain", (_ask(p, "", a) for p, a in asked[128:192]))
    constraints = [r for r in _rows(given.ifeval) if len(r["prompt"]) < 600]
    constraints = [r for r in constraints if "language:" not in str(r["instruction_id_list"])]
    _write("ifeval", constraints[:96])
    _write("corpus", _corpus(given.self_instruct), packed=True)


def _corpus(file: Path) -> Iterator[dict[str, str]]:
    """Short ones in plain English letters, each once."""
    seen = set()
    for row in sorted(_rows(file), key=lambda r: _key(r["instruction"])):
        prompt = f"{row['instruction']}\n\n{row['input']}".strip()
        fits = len(prompt) < 400 and 2 < len(row["output"]) < 600 and prompt.isascii()
        if fits and prompt not in seen:
            seen.add(prompt)
            yield {"prompt": prompt, "completion": row["output"]}


def _row(text: str, task: str, source: str) -> dict[str, str]:
    return {"prompt": f"{text}\n\n{task}", "completion": _json(", ".join(_numbers(source)))}


def _ask(prompt: str, closing: str, answer: str) -> dict[str, str]:
    return {"prompt": f"{prompt}\n\n{closing}".strip(), "completion": answer}


def _json(answer: str) -> str:
    return json.dumps({"answer": answer})


def _numbers(text: str) -> list[str]:
    return re.findall(r"\d+(?:[.,]\d+)*", text)


def _text(row: dict[str, Any]) -> str:
    return f"{row['instruction']}\n\n{row['instances'][0]['input']}".strip()


def _ordered(texts: Iterable[str]) -> list[str]:
    return sorted((t for t in texts if len(t) < 300), key=_key)


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def _write(name: str, rows: Iterable[dict[str, Any]], packed: bool = False) -> None:
    text = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    file = OUT / (f"{name}.jsonl.gz" if packed else f"{name}.jsonl")
    file.write_bytes(gzip.compress(text, 9, mtime=0) if packed else text)


if __name__ == "__main__":
    main()
