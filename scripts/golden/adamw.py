"""Golden value of `crates/train/src/adamw.rs`: three AdamW updates in float64 with gradient clipping.

    python scripts/golden/adamw.py

Prints the three weights. torch 2.15.
"""

import torch

weights = torch.nn.Parameter(torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64))
optimizer = torch.optim.AdamW([weights], lr=0.1, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
rounds = [([0.3, -0.1, 0.2], 0.1), ([3.0, 4.0, 0.0], 0.05), ([-0.2, 0.1, 0.4], 0.02)]
for gradient, lr in rounds:
    weights.grad = torch.tensor([gradient], dtype=torch.float64)
    torch.nn.utils.clip_grad_norm_([weights], 1.0)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
print(weights.tolist())
