"""Who may do what, by the RBAC objects of a server."""

from dataclasses import dataclass

_GROUP = "rbac.authorization.k8s.io"
_PREFIX = "system:serviceaccount:"


@dataclass(frozen=True)
class User:
    name: str
    groups: tuple[str, ...] = ()


ADMIN = User("kubernetes-admin", ("system:masters", "system:authenticated"))
ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


def service_account(name):
    """Give a service account by its user name, with its groups; None if it is none."""
    if not name.startswith(_PREFIX):
        return None
    namespace = name.removeprefix(_PREFIX).partition(":")[0]
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    return User(name, (*groups, "system:authenticated"))


class Rbac:
    """Evaluates Roles and bindings.

    Args:
        server: Holds them; what its `refuse` names is forbidden to everybody.
    """

    def __init__(self, server):
        self._server = server

    def allows(self, user, verb, kind, namespace, name):
        """Whether a user may do something.

        Args:
            user: Who.
            verb: Such as `get`.
            kind: The group, and the plural with its subresource.
            namespace: Where; "" is the cluster.
            name: The object; "" is any.
        """
        group, plural = kind
        if {(verb, plural), (verb, "*"), ("*", plural)} & set(self._server.refuse):
            return False
        if "system:masters" in user.groups:
            return True
        return any(
            _covers(rule.get("verbs", ()), verb)
            and _covers(rule.get("apiGroups", ()), group)
            and _covers_kind(rule.get("resources", ()), plural)
            and (not rule.get("resourceNames") or name in rule["resourceNames"])
            for rule in self._rules(user, namespace)
        )

    def _rules(self, user, namespace):
        server = self._server
        with server.changed:
            for binding in server.all("ClusterRoleBinding"):
                if _binds(binding, user):
                    yield from self._role("ClusterRole", binding, "")
            for binding in server.all("RoleBinding", namespace) if namespace else ():
                if _binds(binding, user):
                    yield from self._role(binding["roleRef"]["kind"], binding, namespace)

    def _role(self, kind, binding, namespace):
        where = namespace if kind == "Role" else ""
        role = self._server.get(kind, binding["roleRef"]["name"], where) or {}
        return role.get("rules") or ()


def _covers(said, asked):
    return "*" in said or asked in said


def _covers_kind(said, asked):
    subresource = asked.partition("/")[2]
    return _covers(said, asked) or (subresource != "" and f"*/{subresource}" in said)


def _binds(binding, user):
    for subject in binding.get("subjects") or ():
        name = subject["name"]
        if subject["kind"] == "ServiceAccount":
            namespace = subject.get("namespace", binding["metadata"].get("namespace", ""))
            name = f"{_PREFIX}{namespace}:{name}"
        if name in (user.groups if subject["kind"] == "Group" else (user.name,)):
            return True
    return False
