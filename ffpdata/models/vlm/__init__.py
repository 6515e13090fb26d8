"""A vision-language model behind a server with the OpenAI protocol: vLLM, or any other."""
