"""``python -m naruto_vision`` is the same as ``naruto-vision``."""

from naruto_vision.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
