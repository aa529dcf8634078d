"""What ``delia ingest --look`` says of a file, and the errors of sources that give nothing."""

import gzip
import json
import subprocess
import sys

import pytest

from delia_ray import cli
from delia_ray.config import Source
from delia_ray.errors import UserError
from delia_ray.ingest.gathering import gather
from delia_ray.ingest.look import ROWS, look
from delia_ray.ingest.parse import parse_file
from delia_ray.ingest.sources import Feed

from .helpers import jsonl, write
from .test_archives import tar

TABLE = (
    "id,Question,Answer,source\r\n1,Which river?,The Loire.,x\r\n2,Which sea?,,x\r\n\r\n"
    '3,"open,quote,y\r\n4,Who?,She.,z\r\n'
)

GOOD = jsonl([{"prompt": f"q{i} {i * 7919 % 1009}", "completion": "a"} for i in range(4000)])


def said(path, **settings):
    return "\n".join(look(Source(path=str(path), **settings)))


def test_a_table(tmp_path):
    text = said(write(tmp_path, "task.csv", TABLE.encode()))
    for part in [
        "CSV, UTF-8, parted by commas, 6 lines, ",
        "header: id, Question, Answer, source",
        "read as    3 rows as prompt_completion (prompt: Question; answer: Answer)",
        "left out: id ('1'), source ('x')",
        "records    3, 1 of them without an answer",
        "set aside: 1 a quote is never closed (row 3)",
        "from line 5 on",
        "lines      6: 4 rows, 1 blank, 1 of the header",
        "1   user: Which river?      assistant: The Loire.",
        "not what you meant?  see quoting=none | header: false",
        "columns: {prompt: id}",
    ]:
        assert part in text, text


def test_settings_are_those_of_a_source_and_change_what_is_said(tmp_path, capsys):
    path = write(tmp_path, "x.tsv", b"ein Haus\ta house\nein Hund\ta dog\n")
    arguments = ["ingest", "--look", path, "format=parallel", "parallel.source=de",
                 "parallel.target=en"]  # fmt: skip
    assert cli.main(arguments) == 0
    assert "2 rows as parallel" in capsys.readouterr().out
    assert cli.main(["ingest", "--look", path]) == 0
    assert "no known layout" in capsys.readouterr().out
    assert cli.main(["ingest", "--look", path, "headr=false"]) == 2
    assert "did you mean header?" in capsys.readouterr().err
    assert cli.main(["ingest", "--look", f"{path}.no"]) == 2
    assert "no such file or folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "data", "parts"),
    [
        ("x.jsonl.gz", gzip.compress(GOOD)[:-900],
         ["JSON lines, gzip", "damaged    behind row", "unless damaged: set_aside", "user: q0 0"]),
        ("x.tar", tar({"a.jsonl": jsonl([{"prompt": "q"}]), "b.png": b"x"}),
         ["tar", "1 member", "not read   b.png: its name is none of data", "user: q"]),
        ("x.json", json.dumps({"data": [{"prompt": "q"}]}).encode(),
         ["JSON objects", "guessed    the list 'data' of one object"]),
        ("x.is-en.tsv", 'Já "x\tYes "x\n"Nei"\t"No\n'.encode(),
         ["TSV", "quotation marks are text", "columns is and en after the file's name",
          "no header", "quoting: standard"]),
        ("x.txt", b"User: Hi\nAssistant: Ho\n", ["chat log", "error ", "container=lines"]),
        ("x.csv", "Íslenska;English\nÞað;It\n".encode("cp1252"), ["encoding: cp1252"]),
        ("x.jsonl", b"", ["nothing", "no rows"]),
        ("x.bin", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
         ["git-lfs pointer", "git lfs pull"]),
        ("x.csv", b"prompt,completion\n", ["its only line was taken for the names of columns"]),
    ],
)  # fmt: skip
def test_what_a_user_needs_to_know(name, data, parts, tmp_path):
    text = said(write(tmp_path, name, data))
    for part in parts:
        assert part in text, text
    assert "look." not in text


def test_only_the_beginning_of_a_long_file_is_looked_at(tmp_path):
    path = write(tmp_path, "x.jsonl", jsonl([{"prompt": str(i)} for i in range(ROWS * 3)]))
    text = said(path)
    assert f"looked at the first {ROWS:,} rows" in text
    assert f"records    {ROWS:,}" in text
    assert f"more than {ROWS:,} lines" in text


def test_a_folder_says_what_is_not_read_and_looks_at_the_first_files(tmp_path):
    for name in ("train-0.jsonl", "train-1.jsonl", "test.jsonl"):
        write(tmp_path, name, jsonl([{"prompt": name}]))
    text = said(tmp_path)
    assert "2 files, in the order of their names" in text
    assert "not read   test.jsonl: split test" in text
    assert "train-1.jsonl   JSON" in text
    assert "user: test.jsonl" in said(tmp_path, split="test")


def test_no_ray_is_started_or_imported(tmp_path):
    path = write(tmp_path, "x.jsonl", jsonl([{"prompt": "q"}]))
    code = (
        "import sys; from delia_ray import cli; "
        f"code = cli.main(['ingest', '--look', {path!r}]); "
        "sys.exit(code or ('ray' in sys.modules) * 7)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "user: q" in done.stdout


def feed(path, **more):
    return Feed("downstream", "downstream", "x", Source(path=str(path), **more))


def gathered(one):
    return gather(one, [parse_file(job) for job in one.jobs(0)])


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.jsonl.gz", gzip.compress(GOOD)[:-4000]),
        ("x.jsonl", GOOD[:-15]),
        ("x.json", json.dumps([json.loads(line) for line in GOOD.splitlines()])[:-15].encode()),
        ("x.tar", tar({"a.jsonl": GOOD, "b.jsonl": GOOD})[:-90_000]),
    ],
)
def test_a_cut_file_is_an_error_of_its_own_unless_the_recipe_allows_it(name, data, tmp_path):
    path = write(tmp_path, name, data)
    with pytest.raises(UserError) as error:
        gathered(feed(path))
    assert f"{name} cannot be read to its end" in str(error.value)
    assert "how much stood behind is unknown" in str(error.value)
    assert "downstream.damaged=set_aside" in str(error.value)
    one = gathered(feed(path, damaged="set_aside"))
    counts = one.counts()
    assert counts["damaged"] == 1
    assert counts["rejects"] == {}
    assert counts["read"] == counts["records"] + 1
    assert counts["damages"][0]["file"] == name
    assert "1 places behind which a file is damaged" in one.lines()
    # What stands behind the rows that are asked for is nobody's loss.
    assert gathered(feed(path, rows=5)).counts()["records"] == 5


@pytest.mark.parametrize(
    ("data", "more", "advice"),
    [
        ("prompt,completion\ncafé,ä\n".encode("cp1252"), {}, "downstream.encoding"),
        (b"frage\nWas ist das?\n", {}, "downstream.container=lines"),
        (b"prompt,completion\n", {}, "downstream.header=false"),
        (b'{"prompt": "q"}\n', {}, "downstream.columns.completion"),
        (b"prompt,completion\n\"a\"b,c\n", {"quoting": "standard"}, "downstream.quoting=none"),
        (b'[{"prompt": [[["q"]]]}]', {"limits": {"depth": 2}}, "downstream.limits.depth"),
        (gzip.compress(GOOD), {"limits": {"unpacked_gib": 1e-9}}, "downstream.limits"),
        (b"%PDF-1.7", {}, "save it as JSON lines"),
    ],
)  # fmt: skip
def test_a_source_that_gives_nothing_names_the_setting_that_would_help(
    data, more, advice, tmp_path
):
    with pytest.raises(UserError) as error:
        gathered(feed(write(tmp_path, "x.csv", data), **more))
    assert advice in str(error.value)


def test_control_tokens_are_named_where_they_took_everything(tmp_path):
    path = write(tmp_path, "x.jsonl", jsonl([{"prompt": "q<|end|>", "completion": "a"}]))
    one = feed(path)
    with pytest.raises(UserError, match=r"downstream\.control_tokens=strip"):
        gather(one, [parse_file(job) for job in one.jobs(0, ["<|end|>"])])


def test_what_is_not_read_is_counted_and_said(tmp_path):
    write(tmp_path, "a.jsonl", GOOD)
    write(tmp_path, "notes.txt", b"x")
    write(tmp_path, "b.tar", tar({"c.jsonl": GOOD, "d.jpg": b"x"}))
    one = gathered(feed(tmp_path))
    counts = one.counts()
    assert counts["not_read"] == 2
    assert counts["not_read_files"] == [
        "notes.txt: its name is none of data", "b.tar/d.jpg: its name is none of data",
    ]  # fmt: skip
    assert "not read: notes.txt, b.tar/d.jpg" in one.lines()
