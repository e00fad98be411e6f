"""A short campaign of kills (a long one is run by hand): nothing acknowledged is lost, torn or doubled here."""

from . import campaign

KILLS = 40


def test_what_is_acknowledged_arrives_whatever_is_killed():
    done = campaign.run(KILLS)
    assert done.kills.total() == KILLS
    assert len(done.acknowledged) > KILLS
    assert done.torn == []
    for kind in campaign.KINDS:
        assert done.lost(kind) == []
        assert done.doubled(kind, remote=False) == 0
    # RFC 1047: between another host's reply and our note of it, a crash makes a copy of each message under way there
    assert sum(done.doubled(kind, remote=True) for kind in campaign.KINDS) <= KILLS * campaign.CONNECTIONS
