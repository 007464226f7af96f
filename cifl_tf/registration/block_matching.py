import numpy as np, tensorflow as tf
def score(a,b):
    fa=tf.constant(a.foreground[...,None].astype('f')); fb=tf.constant(b.foreground[...,None].astype('f'))
    x=a.features*fa; y=b.features*fb
    return float(tf.reduce_sum(x*y)/tf.sqrt(tf.reduce_sum(x*x)*tf.reduce_sum(y*y)))
