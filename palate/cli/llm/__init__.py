"""The commands of ``palate mllm``, and ``palate summarise``."""
