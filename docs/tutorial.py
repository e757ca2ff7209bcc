# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Tutorial: from a log to a router
#
# You have a log of language-model calls: which model answered which query, whether the answer was
# right, what it cost, and how sure a verifier was of it. Ten minutes later you have a router that
# decides after each answer whether to return it or to call a larger model, and you know what it
# saves on queries that it has never seen.
#
# This page is a Python file that opens as a notebook (`docs/tutorial.py`, percent format: VS Code,
# PyCharm and Jupyter with jupytext read it). The figures below were computed when the site was
# built. All of it takes some ten seconds of one core.

# %%
import csv
import pickle

import matplotlib.pyplot as plt
import numpy as np
from tabulate import tabulate

from routing_pomdp.envs import CostModel, History, Rules
from routing_pomdp.envs.logs import read_calls
from routing_pomdp.envs.profiles import load_profile, simulate
from routing_pomdp.evaluation.model_fit import Data, LatentClasses
from routing_pomdp.evaluation.policies.policy_tree import policy_tree
from routing_pomdp.evaluation.runs.report import report
from routing_pomdp.evaluation.signals.signal_quality import auroc
from routing_pomdp.solvers import Exact, FittedQ, Static, Threshold
from routing_pomdp.verifiers import Histogram, LoggedSignal, make_routing_data

# %% [markdown]
# ## 1. A log
#
# A log is a table with one row a call. Yours goes here: any CSV, JSON-lines or parquet file with
# these columns ([the calls table](log_format.md)). We have none at hand, so we draw 6,000 queries
# from an embedded profile, a statistical description of a real log of three Llama models on MMLU,
# and add noise to the cost of each call.

# %%
models = ["llama3.1-8b", "llama3.1-70b", "llama3.1-405b"]
drawn = simulate(load_profile("mmlu"), 6000, seed=2).select(models)
noise = np.random.default_rng(1).lognormal(sigma=0.4, size=drawn.cost.shape)

with open("calls.csv", "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["query_id", "model", "score", "cost", "signal_confidence"])
    for query in range(len(drawn)):
        for model, name in enumerate(models):
            confidence = np.exp(drawn.signals["confidence_logprob"][query, model])
            cost = drawn.cost[query, model] * noise[query, model]
            score = int(drawn.score[query, model])
            table.writerow([f"q{query}", name, score, f"{cost:.3g}", f"{confidence:.4f}"])

with open("calls.csv") as file:
    print("".join(next(file) for _ in range(7)))

# %% [markdown]
# ## 2. Look at it
#
# Routing can pay where the models differ in accuracy and in cost, and where the signal tells right
# answers from wrong ones. AUROC is the probability that a right answer has the higher signal: ½ is
# useless, 1 is perfect.

# %%
log = read_calls("calls.csv")
signal = log.signals["confidence"]
once = np.ones((1, len(log)))  # every query counts once
print(
    tabulate(
        [
            [
                name,
                log.score[:, i].mean(),
                1e6 * log.cost[:, i].mean(),
                auroc(signal[:, i], log.score[:, i], once)[0],
            ]
            for i, name in enumerate(log.models)
        ],
        headers=["model", "accuracy", "USD per million queries", "AUROC of the signal"],
        floatfmt=("", ".3f", ".0f", ".2f"),
    )
)

# %% [markdown]
# ## 3. Split it and fit the decision problem
#
# Half of the queries are the test set, on which nothing is chosen. A quarter of the rest is the
# validation set, on which the operating point is chosen. Everything else is training data.
#
# What the models can do is hidden; the signal is a noisy observation of it. The fitted problem
# holds the prior over scores, the likelihood of each signal and the costs, all of them conditional
# on a hidden class of the query ([the model](model.md)). The rules say which actions there are:
# here the router may start at any model, and may skip models.

# %%
log = log.with_split("test", 0.5, seed=0).with_split("validation", 0.25, seed=0)
verifier, cost_model = LoggedSignal("confidence"), CostModel()
costs = cost_model.fit(log.where("train"), verifier.cost(log.where("train")))
train, validation, test = (
    make_routing_data(log.where(split), verifier, cost_model, costs)
    for split in ("train", "validation", "test")
)
rules = Rules(len(log.models), skip=True, free_start=True)
prices = [0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2, 4, 10]
problem = LatentClasses().fit(Data(train, Histogram(bins=8), costs, rules, prices))
print(f"{len(train)} training, {len(validation)} validation and {len(test)} test queries")
print(f"{problem.n_histories} information states")

# %% [markdown]
# ## 4. Train a few solvers
#
# The *price* λ is what one call of the most expensive model is worth in score. At each price a
# solver gives one policy; from λ = 0 (call whatever helps) to large λ (call the cheapest) they
# trace what the solver can reach at every mean cost. A solver is two calls: `solve` (or
# `solve_frontier`, for many prices at once) and the policy's `act`.

# %%
solvers = {
    "exact": Exact(),
    "fitted Q": FittedQ(),
    "thresholds": Threshold(),
    "single models": Static(),
}
policies = {}
for name, solver in solvers.items():
    policies[name] = solver.solve_frontier(problem, prices, train)

# %% [markdown]
# ## 5. Compare them
#
# `report` replays every policy on the validation and the test queries. *Gap closed* is 0 for
# mixing single models at random and 1 for an oracle that knows every score in advance. Intervals
# are 95% paired bootstraps over the test queries.

# %%
reports = {
    name: report(found, problem, prices, validation, test, log.models, regret=False)
    for name, found in policies.items()
}
rows = []
for name, found in reports.items():
    low, high = found.intervals["gap_closed"]
    rows.append([name, found.measures["aiq"], found.measures["gap_closed"], low, high])
headers = ["solver", "AIQ", "gap closed", "low", "high"]
print(tabulate(rows, headers, floatfmt=".3f"))

# %%
figure, axes = plt.subplots(figsize=(7, 4.5))
for name, found in reports.items():
    hull = found.test.means().router_frontier()
    axes.plot(1e6 * hull.cost, hull.score, marker="o", markersize=3, label=name)
axes.set(xlabel="mean cost (USD per million queries)", ylabel="accuracy on test queries")
axes.legend()
axes.margins(0.12)
for one in reports["exact"].models:
    axes.annotate(
        one["name"],
        (1e6 * one["cost"], one["score"]),
        xytext=(0, -14),
        textcoords="offset points",
        ha="center",
    )

# %% [markdown]
# ## 6. Choose an operating point on validation
#
# Say that you can give up one point of accuracy against always calling the largest model. The
# cheapest policy that keeps this on the *validation* queries is chosen, among all solvers and
# prices.

# %%
floor = validation.score[:, -1].mean() - 0.01
kept = [
    (point["validation_cost"], name, i)
    for name, found in reports.items()
    for i, point in enumerate(found.points)
    if point["validation_score"] >= floor
]
_, chosen, at = min(kept)
policy = policies[chosen][at]
print(f"chosen: {chosen} at λ = {prices[at]}")

# %% [markdown]
# ## 7. What it got on test
#
# The test queries played no part in the choice, so these are the figures to report. An accuracy on
# 716 validation queries has a standard error of 1.4 points, and the best of many policies looks
# better than it is: expect to lose a little more than you asked for. Change the seed of the log to
# see by how much.

# %%
point = reports[chosen].points[at]
largest = test.score[:, -1].mean()
lost = 100 * (largest - point["score"])
print(f"largest model   accuracy {largest:.3f}")
print(f"router          accuracy {point['score']:.3f}, {lost:.1f} points lost")
print(f"cost saved      {1 - point['cost_relative']:.0%}")
print(f"calls a query   {point['calls']:.2f}")

# %% [markdown]
# What does it do? The exact policy at the same price, as a tree. A symbol is a bin of the signal,
# lowest first; percentages are shares of the queries.

# %%
print(policy_tree(policies["exact"][at], log.models))

# %% [markdown]
# ## 8. Use it
#
# A policy is a plain object: pickle it, load it in your service, and ask it after each answer. It
# sees a `History`, which holds what was called and what the verifier said. Load only pickles of
# your own: a pickle can run code. Networks have
# [checkpoints](solver.md#learners-and-their-checkpoints), which cannot.

# %%
with open("router.pickle", "wb") as file:
    pickle.dump(policy, file)


# %%
def route(policy, call, verify):
    """The answer to one query, and which models were called for it."""
    history = History.start(np.array([0]), n_models=len(log.models), n_signals=1)
    called = []
    while action := int(policy.act(history)[0]):  # 0 is STAY: return the answer in hand
        model = history.stage[0] + action
        answer = call(model)
        called.append(log.models[model])
        history.stage[0], history.called[0, model] = model, True
        if model == len(log.models) - 1:  # no decision follows
            break
        history.signal[0, model], history.verified[0, model] = verify(model, answer), True
    return answer, called


with open("router.pickle", "rb") as file:
    router = pickle.load(file)
for query in range(5):  # the log plays endpoints and verifier here
    answer, called = route(
        router,
        call=lambda model: f"answer of {log.models[model]}",
        verify=lambda model, answer, row=query: signal[row, model],
    )
    print(f"{log.query_id[query]}: {answer}, after calling {', '.join(called)}")

# %% [markdown]
# ## The same as commands
#
# ```bash
# python scripts/train.py -m rollouts=calls_table rollouts.path=calls.csv costs=logged \
#     env=full solver=exact,fitted_q,threshold,static sweep=tutorial
# python scripts/compare.py runs/tutorial
# ```
#
# The report has these measures and more, differences with corrected significance, and what was
# chosen on validation for several prices, budgets and floors: [a sweep](sweep.md).
#
# **Next**: [your own log](log_format.md), [a log from live endpoints](collect.md), [your own
# verifier](verifier.md) or [solver](solver.md), [a sweep](sweep.md).
