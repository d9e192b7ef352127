"""Training: rollouts, or an agent and tasks, to a better policy, on the very tokens that were sampled.

data.py      rollouts and foreign traces → rows of ids and masks, curated, with a report of what was left out
lessons.py   demonstrations of micro tasks, written down without a sandbox
tiny.py      a model of about a million parameters and its tokenizer, from nothing
sft.py       SFT: rows → policy, on TRL's SFTTrainer
batches.py   groups of attempts → samples with advantages, by stated rules
grpo.py      GRPO: agent, collector and tasks → policy; engines "sync" and "async"
engine_sync.py, engine_async.py   the two, on TRL's GRPOTrainer and AsyncGRPOTrainer
table.py     what every update did, as a frame and as figures

torch and trl are imported inside functions only: `pip install 'swebench-lab[train]'`.
"""
