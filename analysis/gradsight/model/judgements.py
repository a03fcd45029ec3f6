"""What a person decided about torch's operations, laid over the generated rows.

Each table is a list of groups: a row fragment, and the names that it is about. A name is the last part of a
dotted name and stands for the function, the method and its in-place form alike (`softmax`: torch.softmax,
torch.nn.functional.softmax, torch.Tensor.softmax). A name in several groups gets all of their fields.
Nothing here repeats what `operations.py` measured; where the two disagree this one wins, and says why.
"""

from __future__ import annotations

# ruff: noqa: SIM905 (tables of names read best as words)

# Dtypes and typed tensor classes without a gradient, by the last part of their names.
INTEGER_DTYPES = frozenset(
    """int long short int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool byte char qint8 quint8 qint32
    bool_ intp uintp intc uintc integer signedinteger unsignedinteger longlong ulonglong ushort uint ulong
    ubyte LongTensor IntTensor ShortTensor ByteTensor CharTensor BoolTensor""".split()
)

# Arguments that choose or weigh: the result depends on their numbers, but nobody expects a gradient there, so
# a value that reaches the loss through them alone is not lost. NONE, although torch would call it cut.
NEVER_A_WAY = frozenset("index indices mask condition target targets weight repeats input_lengths".split())

# -- by last name

GROUPS: list[tuple[str, str]] = [
    # Cuts, by what is done. The numbers pass, the graph ends.
    ("| other cut | cause detach | role keep | shape same | saves ", "detach"),
    ("| other cut | cause detach | role keep | shape same | in_place | saves ", "detach_"),
    ("| other cut | cause numpy | kind array | role keep | shape same | saves ", "numpy __array__"),
    (
        "| other cut | cause number | kind number | shape scalar",
        "item __float__ __int__ __bool__ __index__ __complex__",
    ),
    ("| other cut | cause number | kind numbers | shape unknown", "tolist"),
    (
        "| other cut | cause integer | dtype int | role keep | shape same | kind tensor",
        "long int short byte char",
    ),
    ("| other cut | cause integer | dtype bool | role keep | shape same | kind tensor", "bool"),
    (
        "| other cut | cause comparison | dtype bool | saves ",
        """eq ne lt le gt ge equal greater greater_equal less less_equal not_equal isclose allclose isnan
        isinf isfinite isposinf isneginf signbit logical_and logical_or logical_not logical_xor all any isin
        is_nonzero bitwise_and bitwise_or bitwise_xor bitwise_not __and__ __or__ __xor__ __invert__ __eq__
        __ne__ __lt__ __le__ __gt__ __ge__""",
    ),
    (
        "| shape same",
        """eq ne lt le gt ge greater greater_equal less less_equal not_equal isclose isnan isinf isfinite
        isposinf isneginf signbit logical_and logical_or logical_not logical_xor bitwise_and bitwise_or
        bitwise_xor bitwise_not isin""",
    ),
    ("| kind number | shape scalar", "equal allclose is_nonzero"),
    # In place the dtype stays, and with it a graph; what torch does there is strange, and was measured.
    (
        "| cause comparison",
        """eq_ ne_ lt_ le_ gt_ ge_ greater_ greater_equal_ less_ less_equal_ not_equal_ logical_and_
        logical_or_ logical_not_ logical_xor_""",
    ),
    ("| other cut | cause argmax | dtype int | role index | saves ", "argmax argmin"),
    (
        "| other cut | cause argmax | dtype int | saves ",
        "argsort nonzero count_nonzero argwhere searchsorted bucketize bincount",
    ),
    ("| other cut | cause comparison | saves ", "histc"),
    ("| shape reduce", "argmax argmin all any count_nonzero"),
    # Drawn from a distribution that the argument describes: numbers that depend on it without a gradient.
    ("| other cut | cause random | dtype int | saves ", "multinomial"),
    ("| other zero | cause random", "poisson bernoulli binomial normal"),
    # Staircases: the graph is whole and its gradient is zero everywhere.
    ("| cause round | shape same | role keep", "round floor ceil trunc fix sign sgn heaviside"),
    ("| cause round", "floor_divide __floordiv__ __rfloordiv__ nextafter"),
    # A pair with an index in it: the values are live, the indices are integers.
    (
        "| kind tensors | results values indices | saves buffer",
        "sort topk kthvalue mode cummax cummin",
    ),
    ("| results values indices | results_when dim | shape reduce | saves buffer", "max min median nanmedian"),
    ("| shape same", "maximum minimum fmax fmin prelu"),
    ("| kind tensors | results min max | shape reduce", "aminmax"),
    ("| kind tensors | results mantissa exponent", "frexp"),
    (
        "| results output indices | results_when return_indices",
        """max_pool1d max_pool2d max_pool3d adaptive_max_pool1d
     adaptive_max_pool2d adaptive_max_pool3d fractional_max_pool2d fractional_max_pool3d""",
    ),
    ("| kind tensors | results std mean | shape reduce", "std_mean"),
    ("| kind tensors | results var mean | shape reduce", "var_mean"),
    ("| zero_when rounding_mode", "div divide"),
    # Roles: what the numbers mean to a criterion.
    ("| role probability | shape same", "softmax sigmoid expit softmin gumbel_softmax hardsigmoid"),
    ("| role log-probability | shape same", "log_softmax logsigmoid"),
    ("| role log | shape same", "log"),
    ("| role one-hot | dtype int | other none | edges tensor:cut | cause argmax", "one_hot"),
    (
        "| role logit",
        """linear bilinear conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d
        matmul mm spmm bmm addmm addmv addbmm baddbmm mv einsum tensordot __matmul__ __rmatmul__""",
    ),
    ("| shape linear", "linear"),
    ("| shape matmul", "matmul mm spmm bmm mv __matmul__ dot vdot"),
    (
        "| role keep | shape view",
        """view reshape view_as reshape_as flatten ravel squeeze unsqueeze transpose permute swapaxes swapdims
        movedim moveaxis t expand expand_as narrow select unfold unflatten diagonal broadcast_to as_strided
        adjoint view_as_real view_as_complex atleast_1d atleast_2d atleast_3d unbind chunk split tensor_split
        hsplit vsplit dsplit split_with_sizes unsafe_chunk unsafe_split __getitem__""",
    ),
    (
        "| role keep | shape unknown",
        "repeat tile repeat_interleave take_along_dim index_select masked_select take gather",
    ),
    (
        "| role keep | shape same",
        """clone contiguous cpu cuda to type type_as float double half bfloat16 clamp clip clamp_min clamp_max
        dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout roll flip
        fliplr flipud masked_fill where nan_to_num requires_grad_ pin_memory xpu mps resolve_conj
        resolve_neg positive conj detach_copy fill_diagonal_ index_fill""",
    ),
    ("| role keep | shape cat", "cat concat concatenate hstack vstack dstack column_stack row_stack"),
    ("| role keep | shape stack", "stack"),
    (
        "| shape reduce",
        """sum mean prod std var amax amin logsumexp nansum nanmean quantile nanquantile norm vector_norm
        std_mean var_mean""",
    ),
    ("| role keep", "mean amax amin"),
    ("| shape scalar", "trace det logdet dist vdot"),
    ("| role ", "max min median nanmedian"),
    # Casts decided by an argument.
    ("| dtype argument | shape same", "to type"),
    ("| dtype float", "float double half bfloat16"),
    # Only shape, dtype or device of the argument is used.
    (
        "| other none | shape same | saves | role ",
        "zeros_like ones_like rand_like randn_like randint_like empty_like full_like",
    ),
    ("| other none | saves | role ", "new_zeros new_ones new_empty new_empty_strided"),
    ("| other none | edges fill_value:cut | cause rewrap | saves | role ", "new_full full full_like"),
    (
        "| dtype argument",
        """zeros_like ones_like rand_like randn_like randint_like empty_like full_like new_zeros new_ones
        new_full""",
    ),
    ("| dtype int", "randint randperm tril_indices triu_indices"),
    (
        "| other none | kind number | shape scalar | saves ",
        """size dim ndimension numel nelement element_size is_floating_point is_complex is_contiguous
        is_signed get_device storage_offset data_ptr stride is_pinned is_shared is_inference is_neg is_conj
        is_coalesced is_same_size is_set_to __len__ dense_dim sparse_dim is_tensor is_storage dim_order
        can_cast result_type promote_types nbytes untyped_storage storage storage_type __hash__ __repr__""",
    ),
    ("| other none | kind none", "backward retain_grad register_hook register_post_accumulate_grad_hook"),
    # The overwritten numbers are gone, and with them their gradient: it reaches neither self nor what was
    # drawn.
    (
        "| other none | in_place | dtype same | shape same | saves | role ",
        "zero_ random_ uniform_ normal_ exponential_ geometric_ cauchy_ log_normal_ bernoulli_",
    ),
    ("| edges self:none input:none | in_place", "fill_ copy_"),
    (
        "| edges index:none indices:none mask:none condition:none",
        """
        gather scatter scatter_add scatter_reduce index_select index_add index_copy index_fill index_put
        index_reduce masked_fill masked_select masked_scatter take take_along_dim where embedding
        embedding_bag put __getitem__ __setitem__ select_scatter slice_scatter diagonal_scatter""",
    ),
    ("| edges indices:none", "max_unpool1d max_unpool2d max_unpool3d"),
    # New tensors over the same numbers.
    (
        "| other cut | cause rewrap | role keep | dtype argument | shape unknown",
        "new_tensor new scalar_tensor",
    ),
    ("| other live | cause rewrap | dtype argument | shape same | role keep | saves ", "as_tensor asarray"),
    ("| other cut | cause rewrap | shape unknown | dtype float", "linspace logspace range arange"),
    ("| other none | dtype float | role ", "zeros ones rand randn empty eye"),
    ("| other cut | cause numpy | role keep | shape same", "from_numpy frombuffer"),
]

# Criteria give a number; index targets, weights and lengths never had a gradient.
GROUPS += [
    (
        "| role | dtype float | shape scalar | edges target:none weight:none | saves input target",
        "nll_loss multi_margin_loss multilabel_margin_loss",
    ),
    # Probabilities as a target pass their gradient, class numbers have none to pass.
    ("| role | dtype float | shape scalar | edges weight:none | saves input target", "cross_entropy"),
    ("| edges target:none", "hinge_embedding_loss cosine_embedding_loss"),
    (
        "| role | dtype float | shape scalar | edges targets:none input_lengths:none target_lengths:none",
        "ctc_loss",
    ),
    (
        "| role | dtype float | shape scalar",
        """mse_loss l1_loss smooth_l1_loss huber_loss binary_cross_entropy binary_cross_entropy_with_logits
        kl_div poisson_nll_loss gaussian_nll_loss hinge_embedding_loss cosine_embedding_loss
        margin_ranking_loss triplet_margin_loss triplet_margin_with_distance_loss soft_margin_loss
        multilabel_soft_margin_loss""",
    ),
]


def _merged(groups: list[tuple[str, str]]) -> dict[str, str]:
    table: dict[str, str] = {}
    for row, names in groups:
        for name in names.split():
            table[name] = table.get(name, "") + row
    return table


JUDGED_BY_LEAF = _merged(GROUPS)

# -- by full name, where the last part alone would say something wrong

TYPED = "FloatTensor DoubleTensor HalfTensor BFloat16Tensor"
# torch.cuda has the typed classes, and no `torch.cuda.Tensor`.
TYPED_INTEGER = "LongTensor IntTensor ShortTensor ByteTensor CharTensor BoolTensor"

JUDGED: dict[str, str] = {
    "torch.tensor": (
        "data dtype device requires_grad | other cut | cause rewrap | dtype argument | role keep | shape same"
    ),
    "torch.as_tensor": "data dtype device | cause rewrap | dtype argument | role keep | shape same",
    "torch.asarray": "obj | cause rewrap | dtype argument | role keep | shape same",
    "torch.sparse.softmax": "input dim | role probability | shape same | saves result",
    "torch.sparse.log_softmax": "input dim | role log-probability | shape same | saves result",
    "torch.sparse.mm": "mat1 mat2 | role logit | shape matmul | saves mat1 mat2",
    "torch.linalg.solve": "A B | saves A result",
    "torch.linalg.cond": "A p | shape unknown | saves A result",
    "torch.linalg.matrix_rank": "A | other cut | cause comparison | dtype int",
    "torch.range": "start end step | other cut | cause rewrap | dtype float",
    "torch.Tensor.numpy": (
        "self | other cut | cause numpy | kind array | role keep | shape same | raises raises: RuntimeError: "
        "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."
    ),
    "torch.Tensor.new": "self *args | edges self:none cls:none",
    "torch.Tensor.repeat": "self *sizes | role keep | shape view",
    "torch.Tensor.__getitem__": "self index | edges index:none | role keep | shape view",
    "torch.Tensor.__setitem__": "self index value | edges index:none | kind none | in_place",
    "torch.Tensor.apply_": "self callable | in_place | raises raises: RuntimeError",
    "torch.Tensor.map_": "self tensor callable | in_place | raises raises: RuntimeError",
    "torch.Tensor.unique": "self sorted return_inverse return_counts dim | raises backward raises",
    "torch.autograd.Variable": "data requires_grad | other cut | cause rewrap | role keep | shape same",
    "torch.nn.Parameter": "data requires_grad | other cut | cause rewrap | role keep | shape same",
    "torch.nn.parameter.Parameter": "data requires_grad | other cut | cause rewrap | role keep | shape same",
    "torch.nn.Buffer": "data persistent | other cut | cause rewrap | role keep | shape same",
    "torch.nn.parameter.Buffer": "data persistent | other cut | cause rewrap | role keep | shape same",
    "torch.sparse_coo_tensor": "indices values size | edges indices:none | role keep",
    "torch.nn.utils.parameters_to_vector": "parameters | role keep",
    "torch.nn.utils.vector_to_parameters": "vec parameters | other cut | cause data | kind none",
    "torch.nn.utils.clip_grad_norm_": "parameters max_norm | other none | dtype float | shape scalar",
    "torch.nn.utils.clip_grad_norm": "parameters max_norm | other none | dtype float | shape scalar",
    "torch.nn.utils.clip_grad_value_": "parameters clip_value | other none | kind none",
    "torch.nn.utils.rnn.pad_sequence": "sequences batch_first padding_value | role keep",
    "torch.nn.utils.rnn.pack_padded_sequence": (
        "input lengths batch_first enforce_sorted | edges lengths:none | role packed"
    ),
    "torch.nn.utils.rnn.pack_sequence": "sequences enforce_sorted | role packed",
    "torch.nn.utils.rnn.PackedSequence": (
        "data batch_sizes sorted_indices unsorted_indices"
        " | edges batch_sizes:none sorted_indices:none unsorted_indices:none | role packed"
    ),
    "torch.nn.utils.rnn.pad_packed_sequence": (
        "sequence batch_first padding_value total_length | kind tensors | results output lengths"
    ),
    "torch.nn.utils.rnn.unpad_sequence": (
        "padded_sequences lengths batch_first | edges lengths:none | role keep | kind tensors"
    ),
    "torch.nn.utils.rnn.unpack_sequence": "packed_sequences | kind tensors",
    # Initialisers write under no_grad: what was in the tensor, and where it came from, no longer counts.
    **{
        f"torch.nn.init.{n}_": "tensor | other none | in_place | shape same"
        for n in """uniform normal trunc_normal constant ones zeros eye dirac xavier_uniform xavier_normal
        kaiming_uniform kaiming_normal orthogonal sparse""".split()
    },
    "torch.normal": "mean std size | other zero | cause random | dtype float | shape same | role ",
    **{f"torch.{n}": "data | other cut | cause rewrap | dtype float | role keep" for n in TYPED.split()},
    **{
        f"torch.{n}": "data | other cut | cause rewrap | dtype int | role keep" for n in TYPED_INTEGER.split()
    },
    **{f"torch.cuda.{n}": "data | other cut | cause rewrap | dtype float | role keep" for n in TYPED.split()},
    **{
        f"torch.cuda.{n}": "data | other cut | cause rewrap | dtype int | role keep"
        for n in TYPED_INTEGER.split()
    },
}
# One tensor given to torch.Tensor keeps its graph; a list of them does not.
JUDGED["torch.Tensor"] = "data | cause rewrap | dtype float | role keep | shape same"

# Methods that ndarray has too: on a value that may be either, the result is of the same kind.
SHARED_WITH_NUMPY = frozenset(
    """all any argmax argmin argsort clip conj cumprod cumsum diagonal dot flatten max mean min nonzero prod
    ravel repeat reshape round squeeze std sum swapaxes take trace transpose var view put
    __getitem__""".split()
)

# -- attributes of a tensor

_FACT = "self | other none | kind number | shape scalar"
ATTRIBUTES: dict[str, str] = {
    "data": "self | other cut | cause data | role keep | shape same | kind same",
    "T": "self | role keep | shape view | kind same",
    "mT": "self | role keep | shape view",
    "H": "self | role keep | shape view",
    "mH": "self | role keep | shape view",
    "real": "self | role keep | shape same | kind same",
    "imag": "self | role keep | shape same | kind same",
    "grad": "self | other none | shape same",
    "grad_fn": "self | other none | kind unknown",
    **dict.fromkeys(
        """shape dtype device ndim requires_grad is_leaf is_cuda is_cpu is_mps is_xpu is_xla is_meta is_sparse
        is_sparse_csr is_quantized is_nested is_mkldnn is_vulkan is_ipu is_maia is_mtia itemsize nbytes layout
        name names output_nr retains_grad volatile grad_dtype""".split(),
        _FACT,
    ),
}
