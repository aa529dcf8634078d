"""Excel workbooks and translation memories."""

import datetime
import io
import zipfile

import openpyxl
import pytest

from delia_ray.config import Limits
from delia_ray.ingest.containers import read_rows
from delia_ray.ingest.parse import Job, parse_file
from delia_ray.ingest.rows import Bad, Damage, Facts, Reading

from .helpers import write


def workbook(*sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets):
        sheet = book.create_sheet(f"s{number}")
        for row in rows:
            sheet.append(row)
    sink = io.BytesIO()
    book.save(sink)
    return sink.getvalue()


def read(path, **reading):
    facts = Facts()
    return [row for _, row in read_rows(path, Reading(**reading), facts)], facts


def test_the_first_sheet_with_its_types(tmp_path):
    when = datetime.date(2026, 1, 2)
    rows = [["prompt", "completion", "n"], ["q1", "a1", 3], [None, None, None], ["q2", when, 0.5],
            ["q3", None, True]]  # fmt: skip
    found, facts = read(write(tmp_path, "x.xlsx", workbook(rows, [["other"]])))
    assert found == [
        {"prompt": "q1", "completion": "a1", "n": 3},
        {"prompt": "q2", "completion": "2026-01-02 00:00:00", "n": 0.5},
        {"prompt": "q3", "completion": None, "n": True},
    ]
    assert facts.unread == {"sheet s1": "only the first sheet is read"}
    assert facts.lines == 5 == facts.header_lines + facts.blank + facts.rows


def test_a_workbook_becomes_records_under_any_name(tmp_path):
    path = write(tmp_path, "x.bin", workbook([["Question", "Answer"], ["q", "a"]]), "gz")
    part = parse_file(Job("s", "x", path, "auto", {}, None, True))
    assert part.records["answer"].to_pylist() == ["a"]


def test_a_workbook_without_a_sheet_is_an_error(tmp_path):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
    [bad], _ = read(write(tmp_path, "x.xlsx", sink.getvalue()))
    assert isinstance(bad, Damage)
    assert "no valid workbook" in bad.detail


def test_a_cut_workbook_is_damaged(tmp_path):
    [bad], _ = read(write(tmp_path, "x.xlsx", workbook([["prompt"], ["q"]])[:-40]))
    assert isinstance(bad, Damage)


@pytest.mark.parametrize(
    ("limits", "setting"),
    [({"unpacked_gib": 1e-6}, "unpacked_gib"), ({"members": 3}, "members"),
     ({"columns": 1}, "columns"), ({"value_mib": 1e-6}, "value_mib")],
)  # fmt: skip
def test_a_workbook_is_bounded(limits, setting, tmp_path):
    path = write(tmp_path, "x.xlsx", workbook([["prompt", "completion"], ["q", "answer"]]))
    found, _ = read(path, limits=Limits(**limits))
    assert f"limits.{setting}" in found[-1].detail


UNIT = '<tu><tuv xml:lang="{0}"><seg>{1}</seg></tuv><tuv xml:lang="{2}"><seg>{3}</seg></tuv></tu>'
HEAD = '<tmx version="1.4"><header srclang="{}"/><body>'


def tmx(*units, source="en", start="", encoding="utf-8"):
    text = start + HEAD.format(source) + "\n".join(units) + "</body></tmx>"
    return text.encode(encoding)


@pytest.mark.parametrize(
    ("start", "encoding"),
    [("", "utf-8"), ('<?xml version="1.0" encoding="utf-8"?>\n', "utf-8"), ("", "utf-8-sig"),
     ('<?xml version="1.0"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n', "utf-8"),
     ('<?xml version="1.0" encoding="utf-16"?>\n', "utf-16")],
)  # fmt: skip
def test_units_are_pairs_with_the_source_first(start, encoding, tmp_path):
    units = [UNIT.format("en", "Hello &amp; bye", "is", "Halló"),
             UNIT.format("is", "Já", "EN-US", "Yes"),
             UNIT.format("is", "Nei", "en", "No")]  # fmt: skip
    found, _ = read(write(tmp_path, "x.tmx", tmx(*units, start=start, encoding=encoding)))
    assert [list(row["translation"].items()) for row in found] == [
        [("en", "Hello & bye"), ("is", "Halló")],
        [("is", "Já"), ("EN-US", "Yes")],
        [("en", "No"), ("is", "Nei")],
    ]


def test_markup_within_a_segment_is_no_text(tmp_path):
    unit = UNIT.format("en", 'A <bpt i="1">&lt;b></bpt>bold<ept i="1">&lt;/b></ept> <hi>word</hi>',
                       "is", "Orð")  # fmt: skip
    [row], _ = read(write(tmp_path, "x.tmx", tmx(unit)))
    assert row["translation"]["en"] == "A bold word"


def test_faulty_units_are_set_aside_and_what_is_cut_is_damaged(tmp_path):
    units = [UNIT.format("en", "x", "en", "y"), "<tu><tuv><seg>x</seg></tuv></tu>",
             UNIT.format("en", "x", "is", "y")]  # fmt: skip
    found, _ = read(write(tmp_path, "x.tmx", tmx(*units)))
    assert [row.reason for row in found if isinstance(row, Bad)] == [
        "two texts of one language", "a text without a language",
    ]  # fmt: skip
    found, facts = read(write(tmp_path, "x.tmx", tmx(*units)[:-30]))
    assert isinstance(found[-1], Damage)
    assert facts.rows + facts.faults + facts.damaged == len(found)


def test_entities_of_its_own_are_refused(tmp_path):
    start = '<!DOCTYPE tmx [<!ENTITY a "lol"><!ENTITY b "&a;&a;">]>\n'
    [bad], _ = read(write(tmp_path, "x.tmx", tmx(UNIT.format("en", "&b;", "is", "x"), start=start)))
    assert "EntitiesForbidden" in bad.detail


def test_other_xml_is_refused_by_name(tmp_path):
    [bad], _ = read(write(tmp_path, "x.xml", b'<?xml version="1.0"?>\n<xliff/>'))
    assert bad.reason == "no rows but a web page or XML"


def test_pairs_of_a_tmx_become_translations(tmp_path):
    path = write(tmp_path, "x.tmx", tmx(UNIT.format("en", "Hello, world!", "is", "Halló, heimur!")))
    part = parse_file(Job("s", "x.tmx", path, "auto", {}, None, True))
    [record] = part.records.to_pylist()
    assert "Hello, world!" in record["prompt"][0]["content"]
    assert record["answer"] == "Halló, heimur!"
