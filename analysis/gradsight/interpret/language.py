"""What of Python is followed, as a list that is checked: every kind of node, every construct that people use.

`FOLLOWED` and `UNKNOWN` together name each node kind of Python 3.10 to 3.14; what a later Python adds is in
neither until somebody has decided. `UNKNOWN` gives the reason: a value of such a kind is unknown on purpose,
and nothing is said of what hangs on it. Of each construct in `CONSTRUCTS` there is a program in which a
gradient is lost through it, and one that looks alike and learns.
"""

from __future__ import annotations

FOLLOWED = frozenset({
    "Module", "FunctionDef", "AsyncFunctionDef", "ClassDef", "Return", "Delete", "Assign", "AugAssign",
    "AnnAssign", "For", "AsyncFor", "While", "If", "With", "AsyncWith", "Match", "Raise", "Try",
    "TryStar", "Assert", "Import", "ImportFrom", "Global", "Nonlocal", "Expr", "Pass", "Break",
    "Continue", "BoolOp", "NamedExpr", "BinOp", "UnaryOp", "Lambda", "IfExp", "Dict", "Set", "ListComp",
    "SetComp", "DictComp", "GeneratorExp", "Await", "Yield", "YieldFrom", "Compare", "Call",
    "FormattedValue", "JoinedStr", "Constant", "Attribute", "Subscript", "Starred", "Name", "List",
    "Tuple", "Slice", "Load", "Store", "Del", "And", "Or", "Add", "Sub", "Mult", "MatMult", "Div",
    "Mod", "Pow", "LShift", "RShift", "BitOr", "BitXor", "BitAnd", "FloorDiv", "Invert", "Not", "UAdd",
    "USub", "Eq", "NotEq", "Lt", "LtE", "Gt", "GtE", "Is", "IsNot", "In", "NotIn", "comprehension",
    "ExceptHandler", "arguments", "arg", "keyword", "alias", "withitem", "match_case", "MatchValue",
    "MatchSingleton", "MatchSequence", "MatchMapping", "MatchClass", "MatchStar", "MatchAs", "MatchOr",
})  # fmt: skip

UNKNOWN = {
    "Interactive": "a prompt's line: files are read",
    "Expression": "an expression alone: files are read",
    "FunctionType": "the type of a function, as comments give it: it computes nothing",
    "TypeIgnore": "a comment for type checkers",
    "TypeAlias": "a type: no value of it carries a gradient",
    "TypeVar": "a parameter of a type",
    "ParamSpec": "a parameter of a type",
    "TypeVarTuple": "a parameter of a type",
    "TemplateStr": "a template of texts, which no tensor comes from",
    "Interpolation": "a part of such a template",
}

# The kinds that stand for others, and those that no parser makes any more.
ABSTRACT = frozenset({
    "AST", "mod", "stmt", "expr", "expr_context", "boolop", "operator", "unaryop", "cmpop",
    "excepthandler", "pattern", "type_ignore", "type_param",
})  # fmt: skip
RETIRED = frozenset({
    "slice", "Index", "ExtSlice", "Suite", "AugLoad", "AugStore", "Param", "Num", "Str", "Bytes",
    "NameConstant", "Ellipsis",
})  # fmt: skip

CONSTRUCTS = frozenset({
    "async", "attribute_across_methods", "branch_join", "class_hierarchy", "closure", "comprehension",
    "data_assignment", "dataclass_fields", "decorator", "default_dict", "detach_in_place", "dictionary",
    "exec", "exit_stack", "generator", "getattr_name", "global_names", "in_place_operation",
    "indexed_layers", "iterator", "lambda", "list_filled_in_a_loop", "loop_carried", "loop_else",
    "main_guard", "match", "module_script", "named_tuple_fields", "nested_unpacking", "operator",
    "partial", "property", "reduce", "requires_grad_switch", "setattr_name", "starred_unpacking",
    "super", "ternary", "try", "typed_dict_fields", "view", "walrus", "with",
})  # fmt: skip

UNKNOWN_CONSTRUCTS = {
    "class_in_a_function": "a class is known by its file's skeleton, which functions' bodies are no part of",
    "recursion": "a call that comes back to its own function is unknown, whatever it is given",
    "names_by_globals": "what is stored through `globals()` or `locals()` is under no name that can be read",
}
