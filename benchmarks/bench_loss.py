"""Time `ranking_loss`, which sorts, against the same loss over all pairs.

    python benchmarks/bench_loss.py

The pairwise form writes the M x M table of hinges and of weights of a list with tensor operations
and leaves the gradient to autograd, as a ranking loss is usually written. Both sides get the same
lists, of relevances 0 to 11, and compute value and gradient: first all lists of a batch of 128,
then one list of each length. They run in turns in one process and the medians are printed, with
their ratio and the largest difference of value and of gradient, relative to the largest entry. At
the last length only the sorted form is run: the tables of the other would take hundreds of GiB.
Distances are float64, so that differences are those of the algorithms. Run it on an idle machine.
"""

import argparse
import time
from statistics import median

import torch

from skhash.deep.losses import ranking_loss

MARGIN = 3.75


def make_lists(n_queries, n_items, n_levels):
    """Return random distances and relevances; the more relevant, the fewer items."""
    generator = torch.Generator().manual_seed(n_items)
    distances = 48 * torch.rand(n_queries, n_items, generator=generator, dtype=torch.float64)
    share = 0.5 ** torch.arange(n_levels)
    relevance = torch.multinomial(share, distances.numel(), replacement=True, generator=generator)
    return distances.requires_grad_(), relevance.view_as(distances)


def pairwise_loss(distances, relevance, *, margin):
    """Compute what `ranking_loss` computes, from all pairs."""
    gains = torch.exp2(relevance.to(distances.dtype)) - 1
    ranks = torch.arange(1, gains.shape[1] + 1, dtype=gains.dtype)
    ideal = gains.sort(dim=1, descending=True).values @ (1 / torch.log2(1 + ranks))
    weights = (gains[:, :, None] - gains[:, None, :]).clamp(min=0)
    hinges = (margin + distances[:, :, None] - distances[:, None, :]).clamp(min=0)
    return (weights * hinges).sum((1, 2)) / ideal


def run(loss, distances, relevance):
    """Return the seconds that value and gradient take, and both."""
    start = time.perf_counter()
    value = loss(distances, relevance, margin=MARGIN).sum()
    (gradient,) = torch.autograd.grad(value, distances)
    return time.perf_counter() - start, value.detach(), gradient


def difference(tensor, expected):
    """Return the largest difference, relative to the largest entry."""
    return ((tensor - expected).abs().max() / expected.abs().max()).item()


def compare(n_queries, n_items, n_levels, n_repeats):
    """Print the line of one length."""
    problem = make_lists(n_queries, n_items, n_levels)
    losses = (ranking_loss, pairwise_loss)
    for loss in losses:
        run(loss, *problem)
    runs = [[run(loss, *problem) for loss in losses] for _ in range(n_repeats)]
    seconds, slow_seconds = (
        median(side[0] for side in sides) for sides in zip(*runs, strict=True)
    )
    (_, value, gradient), (_, slow_value, slow_gradient) = runs[-1]
    print(
        f"{n_queries:8,} {n_items:8,} {1e3 * seconds:11.2f} {1e3 * slow_seconds:13.2f} "
        f"{slow_seconds / seconds:8.1f} {difference(value, slow_value):11.1e} "
        f"{difference(gradient, slow_gradient):14.1e}"
    )


def sorted_alone(n_items, n_levels, n_repeats):
    """Print the line of a length at which the pairs are too many."""
    problem = make_lists(1, n_items, n_levels)
    run(ranking_loss, *problem)
    seconds = median(run(ranking_loss, *problem)[0] for _ in range(n_repeats))
    print(f"{1:8,} {n_items:8,} {1e3 * seconds:11.2f}")


def main():
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lengths", type=int, nargs="*", default=[128, 512, 2048, 8192])
    parser.add_argument("--longest", type=int, default=100_000, help="for the sorted form alone")
    parser.add_argument("--levels", type=int, default=12, help="distinct relevances")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, {args.threads} thread(s), median of {args.repeats}")
    print(" queries    items sorted (ms) pairwise (ms)    ratio  value diff  gradient diff")
    compare(128, 127, args.levels, args.repeats)
    for n_items in args.lengths:
        compare(1, n_items, args.levels, args.repeats)
    sorted_alone(args.longest, args.levels, args.repeats)


if __name__ == "__main__":
    main()
