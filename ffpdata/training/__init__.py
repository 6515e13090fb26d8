"""Trains a model on pairs: samples and settings go in, weights with their lineage, losses and pictures come out.

`loop` is generic; `vace_lora` and `removal_sample` are what the LoRA of the remover adds to it.
"""
