# Loading into a full stack, masked: the indefinite NaN, with IE, SF and C1; TOP goes down.
# in:  ftw=ff
# out: st0=ffffc000000000000000 fsw=3a41 ftw=ff
fld1
