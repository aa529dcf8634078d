"""delia_ray: diversity-enhanced instruction tuning (DELIA, arXiv 2408.10841) on Ray.

1. ingest      downstream rows and diverse corpora become records with content ids;
2. synthesize  the base model answers the diverse queries in its own voice and rewords
               the downstream instructions (Ray Data + vLLM);
3. mix         ``ratio`` diverse rows for each downstream row, in one exact order;
4. finetune    LoRA and the new special tokens' rows (Ray Train + DeepSpeed + PEFT);
5. evaluate    base, common instruction tuning and DELIA side by side, with intervals.
"""

__version__ = "0.1.0"
