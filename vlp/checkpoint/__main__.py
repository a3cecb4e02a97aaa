"""Look into a checkpoint, or rewrite it.

python -m vlp.checkpoint inspect FILE [--json]
python -m vlp.checkpoint convert IN.ckpt OUT.safetensors      # the student alone, with its config
python -m vlp.checkpoint convert OLD.ckpt NEW.ckpt --trust    # an official file that holds pickled Python objects
python -m vlp.checkpoint export FILE FOLDER                   # weights, config, tokenizer and model card in a folder
"""

from __future__ import annotations

import argparse
import json
import sys

from vlp.checkpoint.convert import convert
from vlp.checkpoint.errors import WeightsError
from vlp.checkpoint.export import export
from vlp.checkpoint.inspection import inspect, text
from vlp.checkpoint.weights import sha256_of_file
from vlp.safe_output import make_output_safe


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0, or 1 on a file that cannot be read, trusted or written."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "inspect":
            found = inspect(options.file)
            print(json.dumps(found, indent=2, ensure_ascii=False, default=str) if options.json else text(found))
            return 1 if found["error"] else 0
        if options.command == "export":
            return _export(options)
        wanted = {name: getattr(options, name) for name in ("trust", "student", "overwrite")}
        done = convert(options.source, options.target, **wanted)
    except (WeightsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if done.pickled:
        print(f"taken over as plain data, nothing was run: objects of {', '.join(done.pickled)}")
    if done.dropped:
        print(f"left out: {done.dropped} tensors of EPIC's generator and head")
    print(f"{options.target}: {done.tensors} tensors, sha256 {sha256_of_file(options.target)}")
    return 0


def _export(options: argparse.Namespace) -> int:
    wanted = {name: getattr(options, name) for name in ("tokenizer", "results", "overwrite")}
    done = export(options.source, options.folder, **wanted)
    beside = f" and {done.added} of EPIC" if done.added else ""
    scores = ", ".join(map(str, done.results)) or "none found; --results FILE names them"
    print(f"{options.folder}: {done.tensors} tensors of {done.baseline}{beside}; results in its card: {scores}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vlp.checkpoint", description="Inspect and convert checkpoints.")
    commands = parser.add_subparsers(dest="command", required=True)
    look = commands.add_parser("inspect", help="say what a file holds; nothing in it is run")
    look.add_argument("file", metavar="FILE")
    look.add_argument("--json", action="store_true", help="everything, with every config key, as JSON")
    make = commands.add_parser("convert", help="rewrite a checkpoint under the same tensor names")
    make.add_argument("source", metavar="IN", help="official or ours: .ckpt, .pt, .pth, .safetensors, TorchScript")
    make.add_argument("target", metavar="OUT", help=".ckpt (the official layout, safe to load) or .safetensors")
    make.add_argument("--trust", action="store_true", help="accept pickled Python objects in IN, as plain data in OUT")
    make.add_argument("--student", action="store_true", help="leave out EPIC's weights and the state of the run")
    make.add_argument("--overwrite", action="store_true", help="replace OUT if it is there")
    hub = commands.add_parser("export", help="write a folder as model hubs have it; load_path and the like take it")
    hub.add_argument("source", metavar="FILE", help="the checkpoint of a run, official or ours")
    hub.add_argument("folder", metavar="FOLDER", help="to be made")
    hub.add_argument("--tokenizer", metavar="FOLDER", help="or a hub name; default the one of the run's configuration")
    hub.add_argument("--results", metavar="FILE", nargs="+", default=[], help="results.json of evaluations elsewhere")
    hub.add_argument("--overwrite", action="store_true", help="replace FOLDER if it is an export")
    return parser


if __name__ == "__main__":
    make_output_safe()
    sys.exit(main())
