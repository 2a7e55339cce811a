"""What a scenario can name, and where it lives: kind -> {name: "module:attribute"}.

Nothing is imported here, so that listing costs nothing. A file of your own needs no line in it.
"""

from __future__ import annotations

CATALOGUE: dict[str, dict[str, str]] = {
    "algorithms": {
        "AllReduceSGD": "simnet.models.algorithms.all_reduce:AllReduceSGD",
        "DPSGD": "simnet.models.algorithms.dpsgd:DPSGD",
        "DPSGDOverlap": "simnet.models.algorithms.dpsgd_overlap:DPSGDOverlap",
        "GradientTracking": "simnet.models.algorithms.gradient_tracking:GradientTracking",
        "DIGing": "simnet.models.algorithms.diging:DIGing",
        "AugDGM": "simnet.models.algorithms.aug_dgm:AugDGM",
        "LocalSGD": "simnet.models.algorithms.local_sgd:LocalSGD",
        "FedAvg": "simnet.models.algorithms.fedavg:FedAvg",
        "D2": "simnet.models.algorithms.d2:D2",
        "ExactDiffusion": "simnet.models.algorithms.exact_diffusion:ExactDiffusion",
    },
    "problems": {
        "Quadratic": "simnet.models.problems.quadratic:Quadratic",
        "LeastSquares": "simnet.models.problems.linear:LeastSquares",
        "LinearRegression": "simnet.models.problems.linear:LinearRegression",
        "Logistic": "simnet.models.problems.logistic:Logistic",
        "Softmax": "simnet.models.problems.softmax:Softmax",
        "MLP": "simnet.models.problems.mlp:MLP",
        "CNN": "simnet.models.problems.cnn:CNN",
        "Transformer": "simnet.models.problems.transformer:Transformer",
        "Module": "simnet.models.problems.module:Module",
        "Declared": "simnet.models.problems.declared:Declared",
    },
    "datasets": {
        "digits": "simnet.models.datasets.shipped:digits",
        "heart_scale": "simnet.models.datasets.shipped:heart_scale",
        "libsvm": "simnet.models.datasets.libsvm:libsvm",
        "idx": "simnet.models.datasets.idx:idx",
        "npz": "simnet.models.datasets.tables:npz",
        "csv": "simnet.models.datasets.tables:csv",
        "text": "simnet.models.datasets.text:text",
        "sample_text": "simnet.models.datasets.text:sample_text",
    },
    "splits": {
        "iid": "simnet.models.splits.shipped:iid",
        "dirichlet": "simnet.models.splits.shipped:dirichlet",
        "shards": "simnet.models.splits.shipped:shards",
        "main_class": "simnet.models.splits.shipped:main_class",
        "by_label": "simnet.models.splits.shipped:by_label",
    },
    "topologies": {
        "ring": "simnet.models.topologies.shipped:ring",
        "path": "simnet.models.topologies.shipped:path",
        "torus": "simnet.models.topologies.shipped:torus",
        "hypercube": "simnet.models.topologies.shipped:hypercube",
        "complete": "simnet.models.topologies.shipped:complete",
        "star": "simnet.models.topologies.shipped:star",
        "tree": "simnet.models.topologies.shipped:tree",
        "edgeless": "simnet.models.topologies.shipped:edgeless",
        "exponential": "simnet.models.topologies.shipped:exponential",
        "erdos_renyi": "simnet.models.topologies.shipped:erdos_renyi",
        "random_regular": "simnet.models.topologies.shipped:random_regular",
        "abilene": "simnet.models.topologies.shipped:abilene",
        "one_peer_exponential": "simnet.models.topologies.varying:OnePeerExponential",
        "random_matching": "simnet.models.topologies.varying:RandomMatching",
    },
    "mixings": {
        "metropolis": "simnet.mixing:metropolis",
        "uniform": "simnet.mixing:uniform",
        "lazy": "simnet.mixing:lazy",
        "max_degree": "simnet.mixing:max_degree",
        "row_stochastic": "simnet.mixing:row_stochastic",
        "column_stochastic": "simnet.mixing:column_stochastic",
    },
}
