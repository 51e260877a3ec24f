/*
 * The term lists that ship: what people of a field search for, so that a fresh cache answers them at once. Our own
 * compilation. A term stands in one list once, in the spelling that people type; a test counts them and looks for
 * doubles.
 */
#include "service/warm.h"

#include <string.h>

static const char *const finance[] = {
    /* retirement */
    "401(k) plan", "403(b) plan", "457(b) plan", "traditional IRA", "Roth IRA", "SEP IRA", "SIMPLE IRA",
    "solo 401(k)", "rollover IRA", "backdoor Roth contribution", "required minimum distribution",
    "early withdrawal penalty", "catch-up contribution", "employer match", "vesting schedule",
    "defined benefit plan", "defined contribution plan", "pension", "cash balance plan", "annuity",
    "fixed annuity", "variable annuity", "Social Security benefits", "full retirement age",
    "safe withdrawal rate", "target date fund", "retirement income planning", "spousal IRA",
    "thrift savings plan", "health savings account",
    /* tax */
    "adjusted gross income", "taxable income", "standard deduction", "itemized deductions",
    "marginal tax rate", "effective tax rate", "tax bracket", "capital gains tax", "long-term capital gains",
    "short-term capital gains", "qualified dividends", "tax-loss harvesting", "wash sale rule", "cost basis",
    "step-up in basis", "alternative minimum tax", "estimated tax payments", "self-employment tax",
    "payroll tax", "withholding allowance", "child tax credit", "earned income tax credit", "estate tax",
    "gift tax exclusion", "property tax", "sales tax", "value added tax", "depreciation deduction",
    "tax-deferred account", "municipal bond tax exemption", "charitable contribution deduction",
    "net investment income tax",
    /* investing */
    "asset allocation", "portfolio diversification", "portfolio rebalancing", "mutual fund", "index fund",
    "exchange-traded fund", "expense ratio", "net asset value", "dividend yield",
    "dividend reinvestment plan", "stock split", "share buyback", "initial public offering",
    "market capitalization", "price-to-earnings ratio", "earnings per share", "book value",
    "dollar-cost averaging", "value investing", "growth investing", "small-cap stocks", "large-cap stocks",
    "emerging markets", "bull market", "bear market", "market volatility", "risk tolerance",
    "investment horizon", "benchmark index", "alpha and beta", "Sharpe ratio",
    "standard deviation of returns", "compound annual growth rate", "total return", "margin account",
    "short selling", "limit order", "stop-loss order", "bid-ask spread", "liquidity", "hedge fund",
    "private equity", "venture capital", "real estate investment trust", "commodity futures", "call option",
    "put option", "covered call", "strike price", "hedging",
    /* bonds and rates */
    "treasury bond", "treasury bill", "treasury inflation-protected securities", "corporate bond",
    "municipal bond", "high-yield bond", "zero-coupon bond", "savings bond", "bond ladder", "coupon rate",
    "yield to maturity", "yield curve", "bond duration", "credit rating", "credit spread", "callable bond",
    "face value", "federal funds rate", "prime rate", "inflation rate", "real interest rate",
    "quantitative easing",
    /* banking and saving */
    "checking account", "savings account", "money market account", "certificate of deposit",
    "high-yield savings account", "annual percentage yield", "compound interest", "simple interest",
    "overdraft fee", "direct deposit", "wire transfer", "automated clearing house transfer", "FDIC insurance",
    "minimum balance requirement", "joint account", "emergency fund", "debit card", "mobile banking",
    "routing number", "bank statement reconciliation",
    /* credit and loans */
    "credit score", "credit report", "credit utilization ratio", "annual percentage rate", "balance transfer",
    "secured credit card", "revolving credit", "line of credit", "personal loan", "student loan refinancing",
    "income-driven repayment", "auto loan", "payday loan", "debt consolidation", "debt-to-income ratio",
    "debt snowball method", "debt avalanche method", "loan amortization", "collateral", "cosigner",
    "loan origination fee", "default and delinquency", "bankruptcy",
    /* home */
    "fixed-rate mortgage", "adjustable-rate mortgage", "mortgage refinancing", "home equity loan",
    "home equity line of credit", "reverse mortgage", "down payment", "private mortgage insurance",
    "closing costs", "escrow account", "loan-to-value ratio", "mortgage points", "FHA loan", "jumbo loan",
    "foreclosure", "title insurance",
    /* insurance */
    "term life insurance", "whole life insurance", "universal life insurance", "disability insurance",
    "long-term care insurance", "health insurance premium", "insurance deductible", "out-of-pocket maximum",
    "copayment", "coinsurance", "homeowners insurance", "renters insurance", "umbrella liability policy",
    "auto insurance coverage", "beneficiary designation", "cash surrender value", "insurance rider",
    "underwriting", "flexible spending account",
    /* planning and estate */
    "financial plan", "net worth statement", "household budget", "cash flow", "zero-based budgeting",
    "fiduciary duty", "certified financial planner", "robo-advisor", "assets under management",
    "advisory fee", "last will and testament", "revocable living trust", "irrevocable trust",
    "power of attorney", "probate", "estate planning", "529 college savings plan",
    "education savings account", "financial independence", "inheritance",
    /* business and accounting */
    "balance sheet", "income statement", "cash flow statement", "accounts receivable", "accounts payable",
    "accrual accounting", "gross margin", "operating income", "net profit margin", "working capital",
    "return on equity", "return on investment", "free cash flow", "break-even point", "goodwill impairment",
    "shareholder equity", "retained earnings", "due diligence", "mergers and acquisitions",
    "internal rate of return", "net present value", "discount rate", "capital expenditure",
};

static const emb_term_list lists[] = {
    {"finance", "retirement, tax, investing, banking, credit, home, insurance and accounting terms", finance,
     sizeof finance / sizeof *finance},
};

const emb_term_list *emb_term_list_at(size_t index)
{
    return index < sizeof lists / sizeof *lists ? &lists[index] : NULL;
}

const emb_term_list *emb_term_list_find(const char *name)
{
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (strcmp(lists[i].name, name) == 0)
            return &lists[i];
    return NULL;
}
