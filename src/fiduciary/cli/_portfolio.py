"""A small loan portfolio with known truth, for `make demo` and for tests where no real data is at hand.

Every applicant has a true log-odds of default that is a written-down function of what the lender sees, so that
a trained model's reasons can be held against the truth. Seeded; no real person is described.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fiduciary.models import Contract

Columns = dict[str, NDArray[np.generic]]
HOUSING = ("owner", "renter", "with_family")
TARGET = "defaulted"


def generate(rows: int = 12_000, seed: int = 2026) -> Columns:
    """Columns of `rows` applicants: eight inputs and `defaulted` (0/1, about 11 % ones).

    Units: months, euro a year, shares between 0 and 1, counts. `employment_months` is missing for about 6 %
    (the applicant did not say), and those default more often than their peers.
    """
    rng = np.random.default_rng(seed)
    income = np.round(np.exp(rng.normal(10.4, 0.45, rows)), -2).clip(6_000, 400_000)
    amount = np.round(income * np.exp(rng.normal(-1.2, 0.6, rows)), -2).clip(500, 150_000)
    term = rng.choice(np.array([12, 24, 36, 48, 60, 72]), rows, p=[0.1, 0.2, 0.25, 0.2, 0.15, 0.1])
    utilisation = np.round(rng.beta(1.6, 3.0, rows), 3)
    late = rng.poisson(0.35 + 1.1 * utilisation**2)
    inquiries = rng.poisson(0.9, rows)
    employment = np.round(rng.gamma(1.8, 32.0, rows)).clip(0, 480)
    missing = rng.random(rows) < 0.06
    housing = rng.choice(3, rows, p=[0.45, 0.42, 0.13])
    margin = true_margin(income, amount, term, utilisation, late, inquiries, employment, missing, housing)
    defaulted = rng.random(rows) < 1 / (1 + np.exp(-margin))
    return {
        "income": income,
        "amount": amount,
        "term_months": term.astype(np.int64),
        "utilisation": utilisation,
        "late_payments": late.clip(0, 12).astype(np.int64),
        "inquiries": inquiries.clip(0, 12).astype(np.int64),
        "employment_months": np.where(missing, np.nan, employment),
        "housing": np.array(HOUSING)[housing],
        TARGET: defaulted.astype(np.int64),
    }


def true_margin(
    income: NDArray[np.float64],
    amount: NDArray[np.float64],
    term: NDArray[np.int64],
    utilisation: NDArray[np.float64],
    late: NDArray[np.int64],
    inquiries: NDArray[np.int64],
    employment: NDArray[np.float64],
    missing: NDArray[np.bool_],
    housing: NDArray[np.int64],
) -> NDArray[np.float64]:
    """True log-odds of default: additive, with bends and a ceiling where real portfolios have them."""
    burden = amount / income * 12 / term
    margin: NDArray[np.float64] = (
        -3.55
        + 1.9 * np.minimum(burden / 0.35, 2.0)
        + 2.1 * utilisation**2
        + 0.65 * np.minimum(late, 4)
        + 0.22 * np.minimum(inquiries, 5)
        - 0.55 * np.log1p(np.where(missing, 0.0, employment)) / np.log(61)
        + np.where(missing, 0.25, 0.0)
        + np.array([-0.25, 0.2, 0.0])[housing]
    )
    return margin


def contract() -> Contract:
    """What a row of the portfolio must be, and the words for a person when it counted against them."""
    from fiduciary.models import Contract, Feature, Relation

    lending = "affordability and willingness to repay"
    return Contract(
        features=(
            Feature(
                name="income",
                type="number",
                unit="euro a year",
                minimum=0,
                maximum=2_000_000,
                monotone=-1,
                mutable=True,
                purpose=lending,
                origin="application form",
                reason="Your income is low for the loan you asked for",
            ),
            Feature(
                name="amount",
                type="number",
                unit="euro",
                minimum=100,
                maximum=1_000_000,
                mutable=True,
                purpose=lending,
                origin="application form",
                reason="The amount you asked for is high",
            ),
            Feature(
                name="term_months",
                type="integer",
                unit="months",
                minimum=1,
                maximum=120,
                mutable=True,
                purpose=lending,
                origin="application form",
                reason="The term you asked for makes the monthly payment high",
            ),
            Feature(
                name="utilisation",
                type="number",
                unit="share of the limits",
                minimum=0,
                maximum=1,
                monotone=1,
                mutable=True,
                purpose=lending,
                origin="credit bureau",
                reason="You use a large share of your existing credit limits",
            ),
            Feature(
                name="late_payments",
                type="integer",
                unit="in 24 months",
                minimum=0,
                maximum=100,
                monotone=1,
                purpose=lending,
                origin="credit bureau",
                reason="Payments on other credit were late in the last 24 months",
            ),
            Feature(
                name="inquiries",
                type="integer",
                unit="in 6 months",
                minimum=0,
                maximum=100,
                monotone=1,
                purpose=lending,
                origin="credit bureau",
                reason="You applied for credit several times in the last 6 months",
            ),
            Feature(
                name="employment_months",
                type="number",
                unit="months",
                minimum=0,
                maximum=720,
                missing="allowed",
                purpose=lending,
                origin="application form",
                reason="You have been with your employer for a short time, or did not say for how long",
            ),
            Feature(
                name="housing",
                type="category",
                categories=list(HOUSING),
                purpose=lending,
                origin="application form",
                reason="Your housing costs weigh on your budget",
            ),
        ),
        relations=(
            Relation(
                left="amount",
                op="<=",
                right=1_000_000,
                message="an amount above one million is not a consumer loan",
            ),
        ),
    )
