"""Serves the vision-language model: a model and a number of servers go in, endpoints of vLLM servers come out."""
