"""Compressions and archives: what is in them is read, refused by name, or bounded by a setting."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import pytest
from backports import zstd

from delia_ray.config import Limits
from delia_ray.ingest.containers import read_rows
from delia_ray.ingest.rows import Bad, Damage, Facts, Reading

from .helpers import CONTAINERS, jsonl, write

ROWS = [{"prompt": f"q{i}", "completion": f"a{i}"} for i in range(3)]
MORE = [{"prompt": f"other {i}", "completion": "x"} for i in range(2)]


def tar(members, mode="w"):
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            if data is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(info)
                continue
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def zipped(members):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return sink.getvalue()


def read(path, **limits):
    facts = Facts()
    found = list(read_rows(path, Reading(limits=Limits(**limits)), facts))
    return found, facts


def rows(found):
    return [row for _, row in found if not isinstance(row, Bad)]


PACK = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd.compress,
    "zip": lambda data: zipped({"x.jsonl": data}),
    "tar": lambda data: tar({"x.jsonl": data}),
    "tar.gz": lambda data: tar({"x.jsonl": data}, "w:gz"),
    "tar.xz": lambda data: tar({"x.jsonl": data}, "w:xz"),
    "gzip in bzip2": lambda data: bz2.compress(gzip.compress(data)),
    "zip of gz": lambda data: zipped({"x.jsonl.gz": gzip.compress(data)}),
}


@pytest.mark.parametrize("container", ["jsonl", "array", "csv", "tsv", "parquet", "arrow stream"])
@pytest.mark.parametrize("pack", PACK)
def test_whatever_packs_it(pack, container, tmp_path):
    data = CONTAINERS[container](ROWS)
    found, _ = read(write(tmp_path, "data.bin", PACK[pack](data)))
    assert rows(found) == ROWS


def test_members_are_read_in_their_order_and_others_named(tmp_path):
    members = {"b/train.jsonl": jsonl(ROWS), "README.md": b"about", "a.jsonl": jsonl(MORE),
               "photo.jpg": b"\xff\xd8"}  # fmt: skip
    for data in (tar(members), zipped(members)):
        found, facts = read(write(tmp_path, "x", data))
        assert rows(found) == ROWS + MORE
        assert [number for number, _ in found] == [1, 2, 3, 4, 5]
        assert set(facts.unread) == {"README.md", "photo.jpg"}
        assert facts.members == 2


def test_a_broken_member_says_which_and_the_next_is_read(tmp_path):
    cut = gzip.compress(jsonl(MORE * 500))[:60]
    found, facts = read(write(tmp_path, "x", tar({"a.jsonl.gz": cut, "b.jsonl": jsonl(ROWS)})))
    [damage] = [row for _, row in found if isinstance(row, Damage)]
    assert "a.jsonl.gz" in damage.detail
    assert rows(found)[-3:] == ROWS
    assert facts.damaged == 1


def test_links_and_names_that_lead_outside_are_no_paths(tmp_path):
    data = tar({"train.jsonl": None, "./../../up.jsonl": jsonl(ROWS)})
    found, facts = read(write(tmp_path, "in/x.tar", data))
    assert rows(found) == ROWS
    assert facts.unread == {"train.jsonl": "no plain file"}
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["in", "x.tar"]


def test_samples_of_a_webdataset_are_refused_by_name(tmp_path):
    picture = {"0.jpg": b"\xff\xd8", "0.json": b'{"prompt": "What is this?"}', "1.jpg": b"x",
               "1.json": b'{"prompt": "And this?"}'}  # fmt: skip
    found, facts = read(write(tmp_path, "x.tar", tar(picture)))
    assert found == []
    assert set(facts.unread.values()) == {"part of a sample of several files (jpg, json)"}
    # One file a sample is a row.
    alone = {f"{i}.json": f'{{"prompt": "q{i}"}}'.encode() for i in range(3)}
    assert len(rows(read(write(tmp_path, "y.tar", tar(alone)))[0])) == 3


@pytest.mark.parametrize(
    ("cut", "good"),
    [
        (lambda d: d[: -(-len(d.rstrip(b"\0")) // 512) * 512], 2703),  # only the end mark
        (lambda d: d[:700], 0),
        (lambda d: d[:-20_000], 1500),
        (lambda d: d[:1024] + b"x" * 512 + d[1536:], 3),  # the second header
    ],
)
def test_a_cut_tar_is_damaged(cut, good, tmp_path):
    """The library would take some of these for the end of the archive."""
    data = tar({"a.jsonl": jsonl(ROWS), "big.jsonl": jsonl(ROWS * 900)})
    found, facts = read(write(tmp_path, "x.tar", cut(data)))
    assert facts.damaged == 1
    assert isinstance(found[-1][1], Damage)
    assert len(rows(found)) >= good


def test_archives_one_after_another_are_all_read(tmp_path):
    data = tar({"a.jsonl": jsonl(ROWS)}) + tar({"b.jsonl": jsonl(MORE)})
    assert rows(read(write(tmp_path, "x.tar", data))[0]) == ROWS + MORE
    for pack in (gzip.compress, bz2.compress, lzma.compress, zstd.compress):
        joined = pack(jsonl(ROWS)) + pack(jsonl(MORE))
        assert rows(read(write(tmp_path, "x", joined))[0]) == ROWS + MORE


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstd.compress])
@pytest.mark.parametrize("fault", [lambda d: d[: len(d) // 2], lambda d: d + b"rubbish behind"])
def test_no_compression_ends_early_in_silence(pack, fault, tmp_path):
    many = [{"prompt": f"q {i} {i * 7919 % 10007}"} for i in range(30_000)]
    found, facts = read(write(tmp_path, "x", fault(pack(jsonl(many)))))
    assert isinstance(found[-1][1], Damage)
    assert facts.damaged == 1
    assert rows(found) == many[: len(rows(found))]


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        ("word/document.xml", "Word document"),
        ("archive/data.pkl", "PyTorch checkpoint"),
        ("arr_0.npy", "NumPy archive"),
        ("xl/workbook.bin", "binary Excel workbook"),
    ],
)
def test_what_a_zip_archive_is_instead(member, reason, tmp_path):
    [(_, bad)], _ = read(write(tmp_path, "x", zipped({member: b"x"})))
    assert bad.reason == f"no rows but a {reason}"
    assert bad.detail


@pytest.mark.parametrize(
    ("start", "reason"),
    [(b"\x04\x22\x4d\x18more", "lz4 file"), (b"7z\xbc\xaf\x27\x1c", "7z archive"),
     (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Excel or Word document (.xls, .doc)"),
     (b"Rar!\x1a\x07\x00", "RAR archive")],
)  # fmt: skip
def test_what_is_not_read_is_named_with_advice(start, reason, tmp_path):
    [(_, bad)], _ = read(write(tmp_path, "x", start + bytes(range(200))))
    assert bad.reason == f"no rows but a {reason}"
    assert bad.detail


def encrypted():
    data = bytearray(zipped({"x.jsonl": jsonl(ROWS)}))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def test_an_encrypted_member_is_not_read(tmp_path):
    found, facts = read(write(tmp_path, "x.zip", encrypted()))
    assert (found, facts.unread) == ([], {"x.jsonl": "encrypted"})


BOMB = (b" " * (2**20 - 1) + b"\n") * 300


@pytest.mark.parametrize(
    ("data", "limits", "setting"),
    [
        (lambda: zstd.compress(BOMB), {}, "limits.ratio=250"),
        (lambda: gzip.compress(jsonl(ROWS * 5000)), {"unpacked_gib": 1e-5}, "limits.unpacked_gib"),
        (lambda: zstd.compress(jsonl(ROWS * 5000)), {"unpacked_gib": 1e-5}, "limits.unpacked_gib"),
        (lambda: tar({f"{i}.jsonl": b"" for i in range(9)}), {"members": 5}, "limits.members=5"),
        (lambda: zipped({f"{i}.jsonl": b"" for i in range(9)}), {"members": 5}, "limits.members=5"),
        (lambda: PACK["tar"](PACK["zip"](PACK["tar"](gzip.compress(jsonl(ROWS))))), {},
         "limits.nesting=3"),
        (lambda: gzip.compress(gzip.compress(gzip.compress(gzip.compress(jsonl(ROWS))))), {},
         "limits.nesting=3"),
        (lambda: b'{"prompt": "' + b"x" * 3_000_000 + b'"}\n{}\n', {"value_mib": 0.1},
         "limits.value_mib=0.1"),
        (lambda: b'[{"prompt": "' + b"x" * 3_000_000, {"value_mib": 0.1}, "limits.value_mib=0.1"),
        (lambda: b"prompt," + b"x," * 300 + b"y\n", {"columns": 50}, "limits.columns=50"),
        (lambda: CONTAINERS["parquet"]([{f"c{i}": "x" for i in range(60)}]), {"columns": 50},
         "limits.columns=50"),
    ],
)  # fmt: skip
def test_a_bomb_is_stopped_by_a_setting_that_its_error_names(data, limits, setting, tmp_path):
    found, _ = read(write(tmp_path, "x", data()), **limits)
    last = found[-1][1]
    assert isinstance(last, Damage)
    assert last.reason == "beyond a limit of the source"
    assert setting in last.detail


@pytest.mark.parametrize(
    ("data", "limits", "setting"),
    [
        (b'{"prompt": [[[[["x"]]]]]}\n{"prompt": "q"}\n', {"depth": 4}, "limits.depth=4"),
        (b'[{"prompt": [[[[["x"]]]]]}, {"prompt": "q"}]', {"depth": 4}, "limits.depth=4"),
        (b"prompt\n" + b"x" * 300_000 + b"\nq\n", {"value_mib": 0.2}, "limits.value_mib=0.2"),
        (CONTAINERS["parquet"]([{"prompt": "x" * 300_000}, {"prompt": "q"}]), {"value_mib": 0.2},
         "limits.value_mib=0.2"),
    ],
)  # fmt: skip
def test_one_row_beyond_a_limit_is_set_aside_alone(data, limits, setting, tmp_path):
    found, _ = read(write(tmp_path, "x", data), **limits)
    if data[:6] == b"prompt":  # a line without an end cannot be told from one that ends later
        limits["value_mib"] = 0.5
        found, _ = read(write(tmp_path, "x", data), **limits)
        assert [len(row["prompt"]) for row in rows(found)] == [300_000, 1]
        return
    assert rows(found) == [{"prompt": "q"}]
    assert setting in found[0][1].detail


def test_a_tar_header_that_asks_for_memory_is_refused(tmp_path):
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**33
    data = info.tobuf(tarfile.GNU_FORMAT) + bytes(10240)
    found, _ = read(write(tmp_path, "x.tar", data))
    assert "a header of" in found[-1][1].detail
