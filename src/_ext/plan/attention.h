/* How wide a panel of packed keys is: whole vectors of every instruction set and type, three of the widest. */
#ifndef NNM_PLAN_ATTENTION_H
#define NNM_PLAN_ATTENTION_H

enum { NNM_PANEL = 48 };

#endif
