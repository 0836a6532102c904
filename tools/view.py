"""Look at slides and at what was found on them, in the browser: on this machine alone, without the internet."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path

from mhkd.inference.viewer.results import find_views
from mhkd.inference.viewer.server import LOCAL, is_local, make_viewer, serve
from preprocess.base.arguments import whole_number
from preprocess.base.console import EXIT_OK, command_parser, note, run_main
from preprocess.slides.search import find_slides

EXAMPLES = """
Results whose slide is not given are listed, but cannot be looked at. Slides under neutral names (--anonymize) are
known by their content.

Examples:
  # the results of mhkd infer, and the folder with the slides
  mhkd view output/inference slides/

  # on a server without a screen: ssh -L 8000:localhost:8000 SERVER, then open the printed address at home
  mhkd view results slides.csv --no-browser --port 8000

Ctrl-C ends it.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__, EXAMPLES)
    parser.add_argument("output_dir", type=Path, metavar="OUTPUT_DIR", help="the folder that mhkd infer wrote to")
    parser.add_argument("slides", nargs="*", metavar="SLIDE", help="slides, folders, 'patterns*', slides.csv")
    parser.add_argument(
        "--port", type=whole_number(0, 65535), default=8000, help="where the browser asks; 0: any that is free"
    )
    parser.add_argument(
        "--host", default=LOCAL, help="another address than this machine's own shows the slides to the network"
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser window")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    views = find_views(args.output_dir, find_slides(args.slides))
    missing = sum(view.path is None for view in views)
    if missing:
        note(f"the slides of {missing} of {len(views)} results are not given: name them, or their folder")
    server = make_viewer(views, args.host, args.port)
    local = is_local(args.host)
    if not local:
        note(f"whoever reaches {args.host}, port {server.port}, can see these slides")
    address = f"http://{'localhost' if local else args.host}:{server.port}/"
    print(f"{len(views)} slides at {address} (Ctrl-C ends)", flush=True)
    if not args.no_browser:
        webbrowser.open(address)
    serve(server)
    return EXIT_OK


if __name__ == "__main__":
    run_main(main)
