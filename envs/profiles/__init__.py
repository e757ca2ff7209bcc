"""Small statistical descriptions of logs, and rollouts simulated from them.

A `Profile` holds model names, the distribution of each model's score and of its verifier's signal,
mean costs, and one correlation matrix of a Gaussian copula: a few hundred numbers in a YAML file,
without any text of prompts. A large simulation reproduces the log's accuracies, the AUROC of every
signal for every model's correctness, and the pairwise correlations.

The shipped profiles (`shipped_profiles`) describe two kinds of logs. `gsm8k`, `medmcqa`, `mmlu`,
`triviaqa` and `truthfulqa` are published with Zellinger & Thomson, "Rational Tuning of LLM Cascades
via Probabilistic Modeling" (arXiv 2501.09345). They were fitted to the *train* splits only, so they
hold nothing of a test split. `letters_mmlu`, `mmlu_pro_openai`, `mmlu_pro_thinking` and
`swe_bench_pro` are public evaluation logs without splits, and `letters_chain`, the default of
`train.py`, has five of the eight models of `letters_mmlu`. They were fitted to all queries, so a
solver trained on one of them must not be evaluated on its log.
"""

from typing import TYPE_CHECKING

from routing_pomdp.envs.lazy import lazy_face

if TYPE_CHECKING:
    from routing_pomdp.envs.profiles.files import load_profile, save_profile, shipped_profiles
    from routing_pomdp.envs.profiles.fit import fit_profile
    from routing_pomdp.envs.profiles.marginal import Marginal, fit_marginal
    from routing_pomdp.envs.profiles.profile import Profile, simulate
    from routing_pomdp.envs.profiles.statistics import Statistics, describe
else:
    __getattr__, __dir__, __all__ = lazy_face(__name__)
