"""``python -m vlp.data.scenes`` is ``python -m scenes``, under the name that it had first."""

import runpy

if __name__ == "__main__":
    runpy.run_module("scenes", run_name="__main__", alter_sys=True)
