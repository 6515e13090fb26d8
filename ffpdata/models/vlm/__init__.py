"""A vision-language model behind a server that speaks the OpenAI protocol: vLLM, or any other."""
