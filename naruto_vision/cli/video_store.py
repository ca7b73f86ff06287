"""``naruto-vision video copy``: videos of one vector store to another, of the same or another kind."""

import argparse

from naruto_vision.cli.console import progress, show


def _copy_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("videos", nargs="*", metavar="NAME", help="videos, as `video list` names them (default: all)")
    add("--store", default="runs/videos", metavar="URI", help="vector store to read, as of `video index`")
    text = "vector store to write: a folder, faiss:DIR, chroma:DIR, chroma+http://HOST:PORT, milvus:FILE.db, milvus+http://…"
    add("--to", required=True, metavar="URI", help=text)


def copy(arguments: argparse.Namespace) -> int:
    """Copy collections with their vectors, ids and metadata; entries that are there already are replaced."""
    from naruto_vision.errors import InputError
    from naruto_vision.gallery.vector_store import open_store
    from naruto_vision.video.index import DONE

    with open_store(arguments.store, existing=True) as source, open_store(arguments.to) as target:
        names = list(dict.fromkeys(arguments.videos)) or source.collections()
        originals, entries = [source.open(name) for name in names], 0
        made = {str(each.note.get("fingerprint")) for each in (*originals, *map(target.open, target.collections()[:1]))}
        if len(made) > 1:
            msg = f"{arguments.to}: has videos of another encoder; give another --to"
            raise InputError(msg)
        with progress("videos", len(names)) as advance:
            for original in originals:
                ids, vectors, metadata = original.read()
                order = sorted(range(len(ids)), key=lambda row: DONE in metadata[row])  # which says that all are there
                copied = target.create(original.name, original.note)
                copied.add([ids[row] for row in order], vectors[order], [metadata[row] for row in order])
                entries += len(ids)
                advance()
    show(f"{len(names)} videos with {entries} entries copied to {arguments.to}")
    return 0


COMMANDS = {"video copy": (_copy_options, copy)}
