"""The main job on a real cluster, read from top to bottom: two apps that know of nothing, protected and freed again while they run."""

import sys

from harness.report import Report, Stop
from harness.world import World
from steps import certify, edit, free, install, issue, outages, protect, refuse, register, resist, roll, sign_in, sign_out, trust


def main():
    world = World()
    report = Report(diagnose=world.diagnose)
    try:
        world.clean_up()
        with world:
            install.everything(world, report)
            protect.running_apps(world, report)
            refuse.what_cannot_be(world, report)
            sign_in.in_a_browser(world, report)
            resist.clients_and_apps(world, report)
            sign_out.everywhere_at_once(world, report)
            edit.a_policy_in_force(world, report)
            issue.api_keys(world, report)
            register.oauth_clients(world, report)
            trust.another_issuer(world, report)
            certify.a_protected_port(world, report)
            roll.pods_under_load(world, report)
            roll.a_new_version(world, report)
            resist.a_bypass(world, report)
            outages.of_redis(world, report)
            outages.of_the_auth_service(world, report)
            outages.of_the_operator(world, report)
            free.the_apps(world, report)
    except Stop as stop:
        print(f"\nthe journey ends here, since this has to hold for what follows: {stop}", flush=True)
    finally:
        if "--keep" in sys.argv:
            print("\nleft as it is (--keep)", flush=True)
        else:
            report.part("Leave the cluster as it was")
            with report.check("nothing of the journey remains"):
                world.clean_up()
                world.expect_clean()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
