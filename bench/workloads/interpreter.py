# An interpreter at work: objects, dictionaries, strings, big integers, generators, sorting.
import sys


class Account:
    def __init__(self, name):
        self.name, self.balance = name, 0

    def pay(self, amount):
        self.balance += amount
        return self.balance


def fold(total, value):
    return (total * 1000003 ^ value) & 0xFFFFFFFFFFFFFFFF


total, random = 1, 12345
accounts = {}
for i in range(250000):
    random = (random * 1103515245 + 12345) & 0x7FFFFFFF
    name = "account-%d" % (random % 997)
    if name not in accounts:
        accounts[name] = Account(name)
    total = fold(total, accounts[name].pay(random % 1000 - 400))
for account in sorted(accounts.values(), key=lambda a: (a.balance, a.name)):
    total = fold(total, sum(ord(c) for c in account.name) + account.balance)
factorial = 1
for i in range(2, 900):
    factorial *= i
digits = sum(int(d) for d in str(factorial))
words = " ".join(str(n * n) for n in range(20000)).split()
total = fold(total, digits + len(set(w[-3:] for w in words)))
grid = [[(x * y) % 17 for x in range(120)] for y in range(120)]
for _ in range(8):
    grid = [[(grid[y][x - 1] + grid[y - 1][x] + grid[y][x]) % 251 for x in range(120)] for y in range(120)]
total = fold(total, sum(map(sum, grid)))
sys.stdout.write("%016x\n" % total)
