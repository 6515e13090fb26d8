"""vLLM servers as processes that end when whoever started them does: `ffpdata serve-vlm`."""
