"""Rules that our own code keeps: no shell, no listener, no pickles, no code that a model brings along."""

import ast
from collections.abc import Iterator
from pathlib import Path

import workbench

SERVING = {"listen", "bind", "start_server", "create_server", "serve_forever"}
SOURCES = sorted(Path(workbench.__file__).parent.rglob("*.py"))


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """(dotted name, node) of every call in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def imported(path: Path) -> set[str]:
    """The top names of what a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def where(path: Path, node: ast.AST) -> str:
    return f"{path}:{getattr(node, 'lineno', '?')}"


def test_no_process_is_started_through_a_shell() -> None:
    forbidden = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "pty.spawn",
                 "asyncio.create_subprocess_shell", "commands.getoutput"}
    seen = 0
    for path in SOURCES:
        for name, node in calls(path):
            assert name not in forbidden, where(path, node)
            if not name.startswith("subprocess."):
                continue
            seen += 1
            assert not any(keyword.arg == "shell" for keyword in node.keywords), where(path, node)
            # A list or a name of one; a string would be one word, or a shell's line.
            assert not isinstance(node.args[0], ast.Constant | ast.JoinedStr), where(path, node)
    assert seen >= 4, "it looks in the wrong place"


def test_nothing_listens() -> None:
    servers = {"socketserver", "http.server", "wsgiref", "xmlrpc.server", "asyncio.start_server", "uvicorn", "flask",
               "multiprocessing.connection", "multiprocessing.managers"}
    for path in SOURCES:
        assert not imported(path) & servers, path
        for name, node in calls(path):
            assert name.rpartition(".")[2] not in SERVING, \
                where(path, node)


def test_nothing_is_unpickled_and_no_foreign_code_is_asked_for() -> None:
    asked = 0
    for path in SOURCES:
        assert not imported(path) & {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}, path
        for name, node in calls(path):
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            if name.endswith("torch.load") or name == "torch.load":
                weights_only = keywords.get("weights_only")
                assert isinstance(weights_only, ast.Constant), where(path, node)
                assert weights_only.value is True, where(path, node)
            if "trust_remote_code" in keywords:
                asked += 1
                assert isinstance(keywords["trust_remote_code"], ast.Constant), where(path, node)
                assert keywords["trust_remote_code"].value is False, where(path, node)
            if name.split(".")[0] in ("AutoTokenizer", "AutoModelForCausalLM", "kind") and name.endswith("pretrained"):
                assert "trust_remote_code" in keywords, where(path, node)
            assert name not in ("eval", "exec", "yaml.unsafe_load", "np.load", "numpy.load"), where(path, node)
    assert asked >= 2, "it looks in the wrong place"
