"""Evaluations with a small network in place of Inception."""

import pgmetrics
from pgmetrics.evaluation.api import collect
from tests.helpers.counting import Counting
from tests.helpers.tables import SWD
from tests.helpers.toy_network import ToyNetwork

ALL = [SWD, "ms-ssim", "fid", "is", "kid", "prdc", "memorisation"]


def sides(n_real=300, n_fake=280):
    return Counting(n_real), Counting(n_fake, seed=1)


def score(real, fake, metrics=("fid", "kid", "prdc", "is"), network=None, **options):
    return pgmetrics.evaluate(real, fake, metrics, networks={"inception": network or ToyNetwork()}, **options)


def values(results, subject="fake"):
    return {(r["metric"], r["level"]): r["value"] for r in results.rows if r["subject"] == subject}


def statistics_of(real, metrics, network, path, **options):
    states, about = collect(real, metrics, networks={"inception": network}, **options)
    return states, path, about
