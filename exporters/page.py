from agent.model import Snapshot

CONTENT_SECURITY_POLICY = "default-src 'none'"
def page(snapshot: Snapshot) -> str:
    return "<p>x"
