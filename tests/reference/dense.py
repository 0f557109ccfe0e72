"""RCIG's meta-gradient with every Jacobian written out, differentiated by autograd.

    J_S = d f(X_S) / d theta at theta_0, a matrix (n C, p)
    alpha = (J_S J_S^T + lambda I)^-1 y_S,  theta = J_S^T alpha,  f_T = J_T theta
    L = mean cross-entropy of f_T exp(log tau)

X_S stays a leaf of the graph all the way, so one call to backward is the answer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.networks.functional import Functional


def dense_jacobian(function: Functional, theta: Tensor, images: Tensor) -> Tensor:
    """(n C, p), differentiable in ``images``: one reverse pass for each output.

    (torch.func.jacrev would be shorter, but what it makes of a batch norm is off by half
    a per cent once it is differentiated again.)
    """
    point = theta.clone().requires_grad_()
    outputs = function(point, images)[0].flatten()
    rows = [torch.autograd.grad(output, point, create_graph=True)[0] for output in outputs]
    return torch.stack(rows)


def outer_value(
    function: Functional,
    theta: Tensor,
    support: tuple[Tensor, Tensor],
    log_temperature: Tensor,
    target: tuple[Tensor, Tensor],
    regulariser: float,
) -> Tensor:
    """L as a differentiable function of S = (X_S, y_S) and log tau."""
    images, labels = support
    j = dense_jacobian(function, theta, images)
    system = j @ j.T + regulariser * torch.eye(len(j), dtype=j.dtype)
    alpha = torch.linalg.solve(system, labels.flatten())
    trained = j.T @ alpha
    outputs = dense_jacobian(function, theta, target[0]) @ trained
    logits = outputs.view(len(target[0]), -1) * log_temperature.exp()
    return F.cross_entropy(logits, target[1])
