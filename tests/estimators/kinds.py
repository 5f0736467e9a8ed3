"""The table of kinds: a new kind joins every property by one line here."""

from isthmus import (
    CD,
    ISTA,
    KL,
    L1,
    LISTA,
    MLP,
    MMD,
    PCD,
    AdamW,
    Autoencoder,
    CategoricalPosterior,
    Contraction,
    ContractiveAutoencoder,
    Convolutional,
    ConvolutionalAutoencoder,
    CoordinateDescent,
    DeepBeliefNetwork,
    DeepBoltzmannMachine,
    DeepRecurrentAutoencoder,
    DenoisingAutoencoder,
    ElasticNet,
    FeatureMaps,
    FineTuning,
    GroupL2,
    Layer,
    LinearAutoencoder,
    MatchingPursuit,
    MissingMask,
    MixturePrior,
    Neighbours,
    PredictiveSparseDecomposition,
    RecirculationAutoencoder,
    Recurrent,
    RelaxedBernoulli,
    RestrictedBoltzmannMachine,
    SemanticHashing,
    SparseAutoencoder,
    SparseCoding,
    StackedAutoencoder,
    StraightThrough,
    TopK,
    TotalCorrelation,
    VampPrior,
    VariationalAutoencoder,
)

SMALL = {"max_epochs": 3, "random_state": 0}
SMALL_CONVOLUTIONS = Convolutional((4,), dense_sizes=(8,), activation="silu")

KINDS = {
    "linear": LinearAutoencoder(code_size=3, **SMALL),
    "deep": Autoencoder(code_size=3, hidden_sizes=(16, 8), **SMALL),
    "deep, tied, noisy, normalised": Autoencoder(
        code_size=3, network=MLP((16,), activation="tanh", tied=True, normalization="batch", dropout=0.2), **SMALL
    ),
    "deep, averaged": Autoencoder(
        code_size=3, hidden_sizes=(16,), optimizer=AdamW(averaging=0.9, clip_norm=1.0), **SMALL
    ),
    "deep, learned variance": Autoencoder(code_size=2, likelihood="gaussian-per-column", **SMALL),
    "deep, codes close to a prior": Autoencoder(code_size=3, hidden_sizes=(16,), penalties=(MMD(),), **SMALL),
    "conv": ConvolutionalAutoencoder(code_size=3, network=Convolutional((4, 6), dense_sizes=(8,)), **SMALL),
    "denoising": DenoisingAutoencoder(code_size=80, **SMALL),
    "denoising, missing, emphasised": DenoisingAutoencoder(
        code_size=20, corruption=MissingMask(corrupted_weight=1.0, clean_weight=0.5), **SMALL
    ),
    "denoising, salt and pepper, tied, deep": DenoisingAutoencoder(
        code_size=9, corruption="salt-and-pepper", network=MLP((16,), tied=True), code_activation="tanh", **SMALL
    ),
    "denoising, noise on convolutions": DenoisingAutoencoder(
        code_size=5, corruption="gaussian", network=SMALL_CONVOLUTIONS, **SMALL
    ),
    "sparse": SparseAutoencoder(code_size=80, **SMALL),
    "sparse, k of a row, gathered": SparseAutoencoder(code_size=96, sparsity=TopK(rate=0.03), **SMALL),
    "sparse, k on average": SparseAutoencoder(code_size=80, sparsity="batch-topk", **SMALL),
    "sparse, thresholds": SparseAutoencoder(code_size=80, sparsity="jumprelu", **SMALL),
    "sparse, gated": SparseAutoencoder(code_size=80, sparsity="gated", **SMALL),
    "sparse, asked for a rate, tied": SparseAutoencoder(code_size=9, sparsity="kl", network=MLP(tied=True), **SMALL),
    "sparse, denoising, contractive": SparseAutoencoder(
        code_size=80, sparsity="student-t", corruption="missing", contraction=Contraction(weight=0.1), **SMALL
    ),
    "sparse, denoising, convolutional": SparseAutoencoder(
        code_size=20, sparsity="batch-topk", network=SMALL_CONVOLUTIONS, corruption="gaussian", **SMALL
    ),
    "sparse, lateral competition": SparseAutoencoder(code_size=80, inference=Recurrent(n_steps=3), **SMALL),
    "sparse, unrolled steps": SparseAutoencoder(code_size=80, network=LISTA(n_steps=2), **SMALL),
    "sparse coding": SparseCoding(code_size=12, **SMALL),
    "sparse coding, by gradient, non-negative, by coordinate descent": SparseCoding(
        code_size=12,
        sparsity=ElasticNet(0.5),
        update="gradient",
        inference=CoordinateDescent(n_steps=2),
        non_negative=True,
        **SMALL,
    ),
    "sparse coding, matching pursuit": SparseCoding(code_size=12, inference=MatchingPursuit(k=3), **SMALL),
    "sparse coding, groups": SparseCoding(code_size=12, sparsity=GroupL2(0.5, size=3), inference=ISTA(), **SMALL),
    "predictive": PredictiveSparseDecomposition(code_size=12, **SMALL),
    "predictive, by gradient, deep, with gain, optimal": PredictiveSparseDecomposition(
        code_size=12,
        sparsity=L1(0.5),
        network=MLP((16,)),
        code_activation="gain-tanh",
        update="gradient",
        transform_inference="optimal",
        **SMALL,
    ),
    "predictive, filters": PredictiveSparseDecomposition(network=FeatureMaps(n_maps=9, kernel_size=7), **SMALL),
    "variational": VariationalAutoencoder(code_size=3, hidden_sizes=(16,), **SMALL),
    "variational, importance weighted, mixture prior": VariationalAutoencoder(
        code_size=3, hidden_sizes=(16,), importance_samples=3, prior=MixturePrior(k=4), **SMALL
    ),
    "variational, pseudo-inputs, penalised, convolutional": VariationalAutoencoder(
        code_size=3,
        network=SMALL_CONVOLUTIONS,
        prior=VampPrior(k=5),
        kl=KL(beta=2.0),
        penalties=(L1(weight=0.01),),
        likelihood="gaussian",
        **SMALL,
    ),
    "variational, free bits": VariationalAutoencoder(
        code_size=3, hidden_sizes=(16,), kl=KL(free_bits=0.2, warmup=0.5), **SMALL
    ),
    "variational, full covariance": VariationalAutoencoder(code_size=3, inference="full", hidden_sizes=(16,), **SMALL),
    "variational, binary, free bits": VariationalAutoencoder(
        code_size=6, inference="bernoulli", hidden_sizes=(16,), kl=KL(free_bits=0.1), **SMALL
    ),
    "variational, categorical, straight-through": VariationalAutoencoder(
        code_size=6,
        inference=CategoricalPosterior(n_levels=3, straight_through=True),
        hidden_sizes=(16,),
        **SMALL,
    ),
    "variational, independent units": VariationalAutoencoder(
        code_size=3, hidden_sizes=(16,), penalties=(TotalCorrelation(weight=2.0),), **SMALL
    ),
    "variational, discrepancy, mixture prior": VariationalAutoencoder(
        code_size=3,
        hidden_sizes=(16,),
        prior=MixturePrior(k=4),
        kl=KL(beta=0.5),
        penalties=(MMD(kernel="gaussian"),),
        **SMALL,
    ),
    "contractive": ContractiveAutoencoder(code_size=80, **SMALL),
    "contractive, second order, deep": ContractiveAutoencoder(
        code_size=6, contraction=Contraction(order=2), network=MLP((16,), normalization="layer"), **SMALL
    ),
    "contractive, denoising, probed convolutions": ContractiveAutoencoder(
        code_size=4,
        network=SMALL_CONVOLUTIONS,
        corruption="masking",
        contraction=Contraction(of="reconstruction", method="hutchinson"),
        **SMALL,
    ),
    "stacked": StackedAutoencoder(code_size=3, hidden_sizes=(16, 8), layers="denoising", **SMALL),
    "stacked, jointly sparse and contractive": StackedAutoencoder(
        code_size=4,
        hidden_sizes=(16,),
        layers=Layer(sparsity="l1", contraction="encoder", tied=False),
        pretraining="joint",
        fine_tuning=FineTuning(epochs=3),
        **SMALL,
    ),
    "hashing": SemanticHashing(code_size=12, **SMALL),
    "hashing, straight-through, deep": SemanticHashing(
        code_size=10, hidden_sizes=(16,), binarisation=StraightThrough(), penalties=(Neighbours(k=3),), **SMALL
    ),
    "hashing, relaxed, convolutional, without penalties": SemanticHashing(
        code_size=9, binarisation=RelaxedBernoulli(), network=SMALL_CONVOLUTIONS, penalties=(), **SMALL
    ),
    "recirculation": RecirculationAutoencoder(code_size=4, **SMALL),
    "recirculation, tied, rectified, by Adam": RecirculationAutoencoder(
        code_size=5, tied=True, code_activation="relu", optimizer="adamw", regression=0.9, **SMALL
    ),
    "recurrent": DeepRecurrentAutoencoder(code_size=3, hidden_sizes=(12, 8), n_sweeps=2, **SMALL),
    "recurrent, untied, rectified, noisy": DeepRecurrentAutoencoder(
        code_size=4,
        hidden_sizes=(12,),
        layers=Layer(corruption="gaussian", activation="relu", tied=False),
        n_sweeps=1,
        **SMALL,
    ),
    "stacked, machines at the same time, a linear code": StackedAutoencoder(
        code_size=4, hidden_sizes=(12,), layers="rbm", pretraining="together", code_activation="linear", **SMALL
    ),
    "rbm": RestrictedBoltzmannMachine(code_size=6, **SMALL),
    "rbm, contrastive divergence, learned variances, sparse": RestrictedBoltzmannMachine(
        code_size=80, likelihood="gaussian-per-column", method=CD(n_steps=(1, 3)), sparsity="kl", **SMALL
    ),
    "rbm, rectified, by Adam": RestrictedBoltzmannMachine(
        code_size=24, hidden_units="rectified", optimizer="adamw", method=PCD(centred=False), **SMALL
    ),
    "rbm, semi-restricted": RestrictedBoltzmannMachine(code_size=6, lateral=True, **SMALL),
    "rbm, denoising score matching": RestrictedBoltzmannMachine(
        code_size=6, method="denoising-score", likelihood="gaussian", **SMALL
    ),
    "dbm": DeepBoltzmannMachine(code_size=5, hidden_sizes=(12, 8), method=PCD(n_chains=20), **SMALL),
    "dbm, all at once, by Adam": DeepBoltzmannMachine(
        code_size=5, hidden_sizes=(12,), pretraining=None, optimizer="adamw", likelihood="gaussian", **SMALL
    ),
    "dbn": DeepBeliefNetwork(code_size=5, hidden_sizes=(12, 8), fine_tuning=FineTuning(epochs=3), **SMALL),
}

ONE_LIKELIHOOD = [name for name, model in KINDS.items() if model.kind in ("sparse-coding", "psd")]
"""The kinds that minimise a squared error alone."""

WITHOUT_RATE = [name for name, model in KINDS.items() if model.kind == "sparse-coding" and model.update == "online"]
"""The kinds that are trained without a learning rate."""

OPTIMISED = [name for name, model in KINDS.items() if model.kind == "sparse-coding"]
"""The kinds without an encoder."""

WITHOUT_GRADIENT = [*WITHOUT_RATE, *(name for name, model in KINDS.items() if model.kind == "hash")]
"""The kinds whose codes have no gradient: those of an optimisation, and bits."""

IMPLIED_SIZE = [name for name, model in KINDS.items() if isinstance(getattr(model, "network", None), FeatureMaps)]
"""The kinds whose code has as many units as their network has positions."""

COMPLETE_ROWS = ["sparse coding, by gradient, non-negative, by coordinate descent", "sparse coding, matching pursuit"]
"""The kinds that do not take `missing="mask"`."""

_REASON = "training takes mini-batches, whose order and number depend on the number of rows"

EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": _REASON,
    "check_sample_weight_equivalence_on_sparse_data": _REASON,
}
"""The checks of scikit-learn that every estimator fails, and why."""
