"""Look at slides and at what was found on them, in the browser: on this machine alone, without the internet."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path

from mhkd.inference.viewer.results import find_views
from mhkd.inference.viewer.server import LOCAL, is_local, make_viewer, serve
from preprocess.console import EXIT_OK, HelpFormatter, note, run_main
from preprocess.errors import UserError

EXAMPLES = """examples:
  # the results of infer_wsi.py, with the slides of a folder
  python tools/view.py output/inference slides/

  # results under neutral names (--anonymize): say which slide is which
  python tools/view.py results slide-0001=/data/a.svs slide-0002=/data/b.svs

  # on a server without a screen: open the printed address through an SSH tunnel (ssh -L 8000:localhost:8000 server)
  python tools/view.py results slides/ --no-browser --port 8000

Results whose slide is not given are listed, and cannot be looked at. Ctrl-C ends it.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=HelpFormatter)
    parser.add_argument("output_dir", type=Path, metavar="OUTPUT_DIR", help="the folder that infer_wsi.py wrote to")
    parser.add_argument("slides", nargs="*", metavar="SLIDE", help="a slide, a folder, or NAME=PATH")
    parser.add_argument("--port", type=int, default=8000, help="the server's port; 0: any that is free")
    parser.add_argument(
        "--host",
        default=LOCAL,
        help="the address to listen at; any but a local one shows the slides to whoever reaches it",
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser window")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    named = dict(slide.split("=", 1) for slide in args.slides if "=" in slide and not Path(slide).exists())
    slides = [path for slide in args.slides if slide.partition("=")[0] not in named for path in _files(Path(slide))]
    views = find_views(args.output_dir, slides, {name: Path(path) for name, path in named.items()})
    missing = sum(view.path is None for view in views)
    if missing:
        note(f"{missing} of {len(views)} results come without their slide: name it, or its folder, after OUTPUT_DIR")
    server = make_viewer(views, args.host, args.port)
    if not is_local(args.host):
        note(f"whoever reaches {args.host}, port {server.port} can see these slides")
    address = f"http://{'localhost' if is_local(args.host) else args.host}:{server.port}/"
    print(f"{len(views)} slides at {address} (Ctrl-C ends)", flush=True)
    if not args.no_browser:
        webbrowser.open(address)
    serve(server)
    return EXIT_OK


def _files(path: Path) -> list[Path]:
    """``path``, or the files in it."""
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    if not path.is_file():
        raise UserError("no such slide or folder", path=path)
    return [path]


if __name__ == "__main__":
    run_main(main)
