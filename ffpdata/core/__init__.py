"""The contract that every part keeps: stages, their configuration, prompts, content keys and errors."""
