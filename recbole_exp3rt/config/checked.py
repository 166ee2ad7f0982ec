"""`recbole_exp3rt.Config`: checks what it is given before RecBole and torch are imported.

It stands for `config.configurator.Config` and makes objects of that class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recbole_exp3rt.config.precheck import precheck


def _config_class() -> Any:
    from recbole_exp3rt.config.configurator import Config as Config

    return Config


class _CheckedFirst(type):
    """Whatever is done with the class is done with `configurator.Config`."""

    def __new__(cls, name: str, bases: tuple[type, ...], names: dict[str, Any]) -> Any:
        """A subclass extends `configurator.Config` itself."""
        if not bases:
            return super().__new__(cls, name, bases, names)
        real = _config_class()
        return type(real)(name, (real,), names)

    def __call__(
        cls,
        model: str | type | None = None,
        dataset: str | None = None,
        config_file_list: Any = None,
        config_dict: Any = None,
        arguments: Any = None,
    ) -> Any:
        """The settings of a run. Raises: UsageError, in the time of a blink."""
        given = (model, dataset, config_file_list, config_dict, arguments)
        precheck(*given)
        return _config_class()(*given)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _config_class())

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _config_class())

    def __getattr__(cls, name: str) -> Any:
        return getattr(_config_class(), name)


if TYPE_CHECKING:
    from recbole_exp3rt.config.configurator import Config as Config
else:

    class Config(metaclass=_CheckedFirst):
        """All settings of a run; see `config.configurator.Config`."""
