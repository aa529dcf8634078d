"""The Hugging Face hub: the token is the user's own login, and nothing here reads or shows it."""

from pathlib import Path

from delia_ray.errors import DeliaError, UserError


def check(repo: str, private: bool) -> None:
    """
    Raises:
        UserError: ``repo`` is no name of a repository, or nobody is logged in.
    """
    if not repo:
        if private:
            raise UserError("--private says who may see a push; give --push HUB_REPO with it")
        return
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UserError(f"--push {repo}: {error}; give OWNER/NAME") from None
    if get_token() is None:
        raise UserError(f"--push {repo}: not logged in; run `hf auth login`, or set HF_TOKEN")


def create(repo: str, private: bool) -> str:
    """The whole name of the repository, which exists afterwards.

    Raises:
        UserError: it cannot be made or written to, or is public and should be private.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # httpx or httpx2

    api = HfApi()
    try:
        # None leaves an existing repository, and the user's default for new ones, as it is.
        name = str(api.create_repo(repo, private=private or None, exist_ok=True).repo_id)
        is_private = bool(api.model_info(name).private)
    except (HTTPError, OSError, ValueError) as error:
        raise UserError(f"--push {repo}: {_first_line(error)}") from None
    if private and not is_private:  # creating one that exists does not change who sees it
        raise UserError(
            f"--push {name} --private: the repository exists and is public; make it private in "
            "its settings, give another name, or leave --private out"
        )
    return name


def upload(repo: str, folder: Path) -> str:
    """Make the repository hold what ``folder`` holds; returns its URL.

    Raises:
        DeliaError: the hub did not take it.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # httpx or httpx2

    try:
        commit = HfApi().upload_folder(
            repo_id=repo, folder_path=folder, commit_message="delia export",
            delete_patterns=["adapter/*", "merged/*"],  # of an earlier export
        )  # fmt: skip
    except (HTTPError, OSError, ValueError) as error:
        raise DeliaError(
            f"pushing to {repo} failed: {_first_line(error)}; the export is whole here, and the "
            "same command pushes again"
        ) from error
    return str(commit.repo_url)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
