"""Stage 4: LoRA and the new tokens' rows, trained by Ray Train and DeepSpeed."""
